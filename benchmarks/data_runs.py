"""What `bench-data` measures, each in a process of its own: `python -m benchmarks.data_runs RUN FILE [MORE]`.

Ours are the product's own calls. The others are the version that one writes first, with the `datasets` library:
`load_dataset("json")`, then `map` or `filter` with a function of a row.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

CHUNK = 1024**2
MAX_LENGTH = 2048


def check(file: Path) -> dict[str, object]:
    """All that `spotune data check` does without a model."""
    from spotune.cli.data import check_file
    from spotune.data.quality import QualityCheck

    quality = QualityCheck()
    report = check_file(file, None, max_length=MAX_LENGTH, quality=quality)
    issues = {issue.kind: issue.rows for issue in quality.report.issues}
    return {"rows": report.rows, "issues": issues, "sampled": quality.report.sampled_rows}


def deduplicate(file: Path) -> dict[str, object]:
    """What a retraining does with a file: hash its rows, and choose the first of each content by the hashes."""
    from spotune.data.assembly.choosing import first_of_each
    from spotune.data.assembly.hashes import hash_rows
    from spotune.data.assembly.sources import Source

    with tempfile.TemporaryDirectory() as folder:
        hashes = Path(folder) / "hashes"
        with hashes.open("wb") as target:
            target.writelines(hash_rows(_chunks(file)))
        rows = (hashes.stat().st_size - 48) // 32
        source = Source(str(file), "", "", file.stat().st_size, rows, str(hashes))
        (chosen,) = first_of_each([source], lambda uri, _: _chunks(Path(uri)), None, frozenset())
    return {"rows": rows, "kept": chosen.count}


def tokenize(file: Path, tokenizer: Path) -> dict[str, object]:
    """Rows rendered by a chat template, their tokens and which of them are learned, as a check with a model counts."""
    from spotune.data.faults import FaultList
    from spotune.data.formats import read_examples
    from spotune.data.statistics import TokenCount, batches
    from spotune.data.tokens import RowTokenizer
    from tests.data import templates

    config = json.dumps({"eos_token": "<|im_end|>"}).encode()
    rows = RowTokenizer.from_files(tokenizer.read_bytes(), config, templates.CHATML.encode())
    faults = FaultList()
    count = TokenCount(rows, MAX_LENGTH, "assistant", faults)
    for batch in batches(read_examples(_chunks(file), faults)):
        count.add(batch)
    statistics = count.statistics(1)
    return {"rows": faults.rows, "tokens": statistics.total if statistics else 0}


_OBVIOUS = {
    "email": re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+"),
    "phone": re.compile(r"(\+\d{1,3}[ .-]?)?\(?\d{3}\)?[ .-]?\d{3}[ .-]?\d{4}"),
    "card_number": re.compile(r"\b(?:\d[ -]?){13,19}\b"),
    "iban": re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}"),
    "national_id": re.compile(r"\b\d{3}-\d{2}-\d{4}\b"),
    "aws_key": re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b"),
    "api_token": re.compile(r"\b(gh[pousr]_\w{36}|hf_\w{34}|xox[abprs]-[\w-]+|AIza[\w-]{35}|sk-ant-[\w-]+)"),
    "jwt": re.compile(r"\beyJ[\w-]+\.eyJ[\w-]+\.[\w-]+"),
    "private_key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "password_in_url": re.compile(r"\w+://[^/\s:]+:[^@\s]+@"),
    "mojibake": re.compile("Ã.|â€|Â."),
    "replacement_character": re.compile("\ufffd"),
    "control_character": re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"),
}


def datasets_check(file: Path) -> dict[str, object]:
    """Length, duplicates and patterns by `map`: without checksums, near duplicates, languages and format rules."""
    seen: set[str] = set()

    def look(row: dict[str, Any]) -> dict[str, Any]:
        text = "\n".join(message["content"] for message in row["messages"])
        digest = hashlib.sha256(text.encode()).hexdigest()
        repeated = digest in seen
        seen.add(digest)
        return {
            "characters": len(text),
            "repeated": repeated,
            **{name: bool(pattern.search(text)) for name, pattern in _OBVIOUS.items()},
        }

    looked = _loaded(file).map(look)
    return {"rows": len(looked), "repeated": sum(looked["repeated"])}


def datasets_deduplicate(file: Path) -> dict[str, object]:
    """The same by `filter` and a set."""
    seen: set[str] = set()

    def first(row: dict[str, Any]) -> bool:
        digest = hashlib.sha256(json.dumps(row["messages"]).encode()).hexdigest()
        new = digest not in seen
        seen.add(digest)
        return new

    return {"kept": len(_loaded(file).filter(first))}


def datasets_tokenize(file: Path, tokenizer: Path) -> dict[str, object]:
    """The same tokenizer by `map`, a row at a time, without a mask of what is learned."""
    from tokenizers import Tokenizer

    encoder = Tokenizer.from_file(str(tokenizer))

    def encode(row: dict[str, Any]) -> dict[str, Any]:
        text = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in row["messages"])
        return {"input_ids": encoder.encode(text).ids[:MAX_LENGTH]}

    encoded = _loaded(file).map(encode)
    return {"rows": len(encoded)}


def _loaded(file: Path) -> Any:
    os.environ["HF_HUB_OFFLINE"] = "1"
    import datasets

    datasets.disable_progress_bars()
    return datasets.load_dataset("json", data_files=str(file), split="train", cache_dir=f"{file}.cache")


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        yield from iter(lambda: stream.read(CHUNK), b"")


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(name: str, file: str, more: Iterable[str]) -> None:
    """Run one, and print what it took as JSON."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = RUNS[name](Path(file), *map(Path, more))
    taken = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "peak": _peak_bytes()}
    print(json.dumps({**taken, "found": found}))


RUNS = {
    run.__name__: run
    for run in chain(
        (check, deduplicate, tokenize),
        (datasets_check, datasets_deduplicate, datasets_tokenize),
    )
}

if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
