"""Real peaks and tokens a second on this machine's GPU, as rows beside the published ones.

    make bench-gpu-memory [FILE="model ..."]

Each point of the grid runs in a process of its own, so that none finds what another left in the GPU's memory. Rows go
to benchmarks/data/measured_<gpu>.csv, each as soon as it is measured; one of an earlier run of the same point is
replaced. `make bench-planner` reads the file too.
"""

from __future__ import annotations

import csv
import itertools
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import torch

from benchmarks.gpu_point import ADAPTER, Measured, Point, attempt, save_random
from benchmarks.measured import DATA, gpu_names
from spotune.contracts.history import is_card
from spotune.contracts.request import Method
from spotune.planner import known_config, read_architecture

T = TypeVar("T")

MODELS = ("Qwen/Qwen2.5-0.5B", "meta-llama/Llama-3.2-1B", "Qwen/Qwen2.5-7B")
METHODS: tuple[Method, ...] = ("full", "lora", "qlora", "dora", "rslora", "ia3", "prefix")
"""All but bottleneck adapters, which PEFT does not have."""
SEQUENCES, MICRO_BATCHES = (512, 2048, 8192), (1, 4)
LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")


def main() -> None:
    """Measure every point, print each; exit 1 where one failed for another reason than memory."""
    if not torch.cuda.is_available():
        print("This machine has no CUDA GPU: nothing was measured.")
        return
    models = sys.argv[1:] or MODELS
    unknown = [model for model in models if known_config(model) is None]
    if unknown:
        sys.exit(f"No configuration is bundled for {', '.join(unknown)}; `spotune models` lists those that are.")
    card = torch.cuda.get_device_name(0)
    gpu = name_of(card)
    if gpu not in gpu_names():
        print(f"{card} is no known card: bench-planner compares its rows once benchmarks/data/gpus.csv has {gpu!r}.")
    outcomes = [outcome for model in models for outcome in _measure_model(model, card, gpu)]
    sys.exit(1 if any(isinstance(one, str) and one != "out of memory" for one in outcomes) else 0)


def grid(model: str) -> list[Point]:
    """The points of one model: no sequence beyond its context, and no prefix with checkpointing, which PEFT refuses."""
    context = read_architecture(known_config(model) or {}).context
    ways = itertools.product(METHODS, SEQUENCES, MICRO_BATCHES, (False, True))
    return [
        Point(model, method, sequence, micro_batch, checkpointing)
        for method, sequence, micro_batch, checkpointing in ways
        if sequence <= context and not (method == "prefix" and checkpointing)
    ]


def name_of(card: str) -> str:
    """The card's name in gpus.csv, from PyTorch's ("NVIDIA A100-SXM4-80GB": A100-80); else PyTorch's, for a path."""
    known = next((name for name in gpu_names() if is_card(name, card)), None)
    if known is not None:
        return known
    return re.sub(r"[^A-Za-z0-9]+", "-", card).strip("-")


def row_of(point: Point, measured: Measured, card: str, gpu: str) -> dict[str, object]:
    """One row in the schema of benchmarks/data/README.md; paged states are added to the peak, as the planner does."""
    shape = f"{point.sequence_length}x{point.micro_batch}-{'checkpointing' if point.checkpointing else 'plain'}"
    adapter = point.method not in ("full", "ia3")
    return {
        "id": f"{gpu}-{point.model}-{point.method}-{shape}",
        "source": f"measured by benchmarks/gpu_memory.py: {card}, {_versions()}",
        "stack": "transformers",
        "model": point.model,
        "method": point.method,
        "rank": point.rank if adapter else "",
        "targets": ADAPTER.target_modules,
        "quantization": "nf4" if point.method == "qlora" else "none",
        "master_weights": "yes" if point.method == "full" else "no",
        "optimizer": point.optimizer,
        "sequence_length": point.sequence_length,
        "typical_length": point.sequence_length,
        "micro_batch": point.micro_batch,
        "accumulation": 1,
        "checkpointing": "yes" if point.checkpointing else "no",
        "attention": measured.attention,
        "fused_cross_entropy": "no",
        "gpu": gpu,
        "gpus": 1,
        "hosts": 1,
        "sharding": "none",
        "offload": "no",
        "peak_bytes": measured.reserved + measured.paged,
        "peak_kind": "reserved",
        "tokens_per_second": round(measured.tokens_per_second, 1),
        "note": f"{measured.precision}; allocated {measured.allocated}; {measured.paged} of the peak are paged states",
    }


def keep(row: Mapping[str, object], path: Path) -> None:
    """Write the row into the file, in the place of one with the same id where there is one."""
    rows: dict[object, Mapping[str, object]] = {}
    if path.exists():
        with path.open(encoding="utf-8", newline="") as stream:
            rows = {one["id"]: one for one in csv.DictReader(stream)}
    rows[row["id"]] = row
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(row), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows.values())


def _measure_model(model: str, card: str, gpu: str) -> Iterator[Measured | str]:
    with tempfile.TemporaryDirectory() as folder:
        _apart(save_random, known_config(model), Path(folder))
        for point in grid(model):
            try:
                outcome = _apart(attempt, point, Path(folder))
            except BrokenProcessPool:
                outcome = "failed: the process was killed"
            _print(point, outcome)
            if isinstance(outcome, Measured):
                keep(row_of(point, outcome, card, gpu), DATA / f"measured_{gpu}.csv")
            yield outcome


def _apart(work: Callable[..., T], *arguments: object) -> T:
    """The work's result, from a fresh process that ends after it."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def _print(point: Point, outcome: Measured | str) -> None:
    what = f"{point.model} {point.method}, {point.micro_batch} x {point.sequence_length} tokens"
    what += ", checkpointing" if point.checkpointing else ""
    if isinstance(outcome, Measured):
        held = (outcome.reserved + outcome.paged) / 2**30
        outcome = f"{held:.2f} GiB, {outcome.tokens_per_second:,.0f} tokens/s"
    print(f"{what}: {outcome}", flush=True)


def _versions() -> str:
    return ", ".join(f"{name} {version(name)}" for name in LIBRARIES)


if __name__ == "__main__":
    main()
