"""How fast a dataset is checked, de-duplicated and tokenized, in how much memory, against the `datasets` library.

    make bench-data            on a generated file of 1 GB
    make bench-data FILE=100   of 100 MB

Speed is megabytes of the file for each second of processor time, of all cores together. Each run is a process of its
own, whose peak memory the system counts. Tokenization and the `datasets` versions run on the first 32 MB, since their
speed does not depend on the size.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from benchmarks.data_rows import REPEATS, generate, sentences
from benchmarks.report import Figure, finish

MEGA = 1_000_000
WHOLE = 1000
PART, LESS = 32, 8
"""Megabytes of the short runs; and the whole's part that shows that memory does not grow."""
SPEED_BAR, MEMORY_BAR, GROWTH_BAR = 40, 500, 1.1


@dataclass(frozen=True)
class Taken:
    """One run."""

    size: int
    cpu: float
    wall: float
    peak: int
    found: dict[str, Any]

    @property
    def speed(self) -> float:
        """Megabytes a second and core."""
        return self.size / MEGA / self.cpu


def main() -> None:
    """Measure, print and check the bars."""
    size = int(sys.argv[1]) * MEGA if len(sys.argv) > 1 else WHOLE * MEGA
    with tempfile.TemporaryDirectory(prefix="spotune-bench-") as folder:
        whole, less, part = (Path(folder) / f"{name}.jsonl" for name in ("whole", "less", "part"))
        planted = generate(whole, size)
        generate(less, size // LESS)
        generate(part, min(size, PART * MEGA))
        tokenizer = _tokenizer(Path(folder))
        figures = [
            *_check_figures(whole, less, planted),
            *_compared("check", run("check", part), run("datasets_check", part)),
            *_deduplication_figures(whole),
            *_compared("de-duplication", run("deduplicate", part), run("datasets_deduplicate", part)),
            *_compared("tokenization", run("tokenize", part, tokenizer), run("datasets_tokenize", part, tokenizer)),
        ]
    finish("data", figures)


def run(name: str, file: Path, *more: Path) -> Taken:
    """What a process of its own took for it."""
    command = [sys.executable, "-m", "benchmarks.data_runs", name, str(file), *map(str, more)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    answer = json.loads(done.stdout.splitlines()[-1])
    return Taken(file.stat().st_size, answer["cpu"], answer["wall"], answer["peak"], answer["found"])


def _check_figures(whole: Path, less: Path, planted: dict[str, int]) -> list[Figure]:
    large, small = run("check", whole), run("check", less)
    found = large.found["issues"]
    wrong = sum(abs(found.get(kind, 0) - count) for kind, count in planted.items() if kind not in REPEATS)
    wrong += max(0, planted["exact_duplicate"] - found.get("exact_duplicate", 0))
    size = f"{large.size / MEGA:,.0f} MB"
    return [
        Figure(f"check, {size}", large.speed, "MB/s a core", SPEED_BAR, at_least=True),
        Figure(f"check, {size}, wall", large.wall, "s"),
        Figure(f"check, {size}, peak memory", large.peak / MEGA, "MB", MEMORY_BAR),
        Figure(f"  against that of {small.size / MEGA:,.0f} MB", large.peak / small.peak, "times", GROWTH_BAR),
        Figure(f"  planted faults, {sum(planted.values()):,}: missed or made up", wrong, "rows", 0),
        Figure("  rows sampled for near duplicates", large.found["sampled"], "rows"),
        Figure("  near duplicates among them", found.get("near_duplicate", 0), "rows"),
    ]


def _deduplication_figures(whole: Path) -> list[Figure]:
    taken = run("deduplicate", whole)
    size = f"{taken.size / MEGA:,.0f} MB"
    return [
        Figure(f"de-duplication, {size}", taken.speed, "MB/s a core", SPEED_BAR, at_least=True),
        Figure(f"de-duplication, {size}, peak memory", taken.peak / MEGA, "MB", MEMORY_BAR),
    ]


def _compared(name: str, ours: Taken, theirs: Taken) -> list[Figure]:
    size = f"{ours.size / MEGA:,.0f} MB"
    return [
        Figure(f"{name}, {size}", ours.speed, "MB/s a core"),
        Figure("  with datasets", theirs.speed, "MB/s a core"),
        Figure("  times as fast", ours.speed / theirs.speed, "times"),
        Figure("  peak memory", ours.peak / MEGA, "MB"),
        Figure("  with datasets", theirs.peak / MEGA, "MB"),
    ]


def _tokenizer(folder: Path) -> Path:
    """A byte-level BPE of some thousand merges, trained on the sentences: real ones take their time for the same."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=8000,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences(), trainer)
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    return path


if __name__ == "__main__":
    main()
