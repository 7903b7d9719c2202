"""From a channel's file to its store: read, render and encode in blocks, the next one while the last is encoded."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from spotune.contracts.training import ObjectiveConfig
from spotune.data.formats import FaultList, read_examples
from spotune.data.rows import Example, content_hash
from spotune.data.statistics import batches
from spotune.data.template import Rendered
from spotune.data.tokens import EncodedRow, RowTokenizer
from training_container.corpus.store import Encoded, StoreWriter
from training_container.faults import TrainingFault

CHUNK_BYTES = 1 << 20


def chunks(path: Path) -> Iterator[bytes]:
    """A file's bytes, in order."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def encode_file(
    path: Path, tokenizer: RowTokenizer, limit: int, objective: ObjectiveConfig, writer: StoreWriter
) -> None:
    """Write every row of a JSONL file, its first `limit` tokens. Memory holds two blocks of rows.

    The tokenizer's threads take two thirds of the time (measured: SmolLM2's, on chats); they run while this thread
    parses and renders the next block.

    Raises:
        TrainingFault: rows have faults; the first are named.
    """
    faults = FaultList()
    waiting: Future[list[Encoded]] | None = None
    with ThreadPoolExecutor(1) as encoder:
        for block in batches(read_examples(chunks(path), faults, objective.type)):
            if faults.count:  # nothing will be trained on: the rest is only checked
                continue
            rendered = [tokenizer.render(example, objective.loss_on) for example in block]
            begun = encoder.submit(_encode, tokenizer, block, rendered, limit)
            if waiting is not None:
                writer.add(waiting.result())
            waiting = begun
        if waiting is not None:
            writer.add(waiting.result())
    if faults.count:
        raise _faulty(path, faults)


def _encode(tokenizer: RowTokenizer, block: list[Example], rendered: list[Rendered], limit: int) -> list[Encoded]:
    encoded = tokenizer.encode_rendered(rendered, limit)
    return [_row(row, example) for row, example in zip(encoded, block, strict=True)]


def _row(encoded: EncodedRow, example: Example) -> Encoded:
    """A row that carries no loss after truncation teaches nothing: of it only the digest is kept."""
    trained = np.array(encoded.trained, dtype=np.bool_)
    trained[:1] = False  # nothing precedes the first token, so nothing can predict it
    kept = len(trained) if trained.any() else 0
    return Encoded(
        np.array(encoded.ids[:kept], dtype=np.int32),
        trained[:kept],
        content_hash(example),
        example.slice,
        bool(example.choices),
    )


def _faulty(path: Path, faults: FaultList) -> TrainingFault:
    first = "; ".join(f"line {fault.line}, {fault.field}: {fault.message}" for fault in faults.faults[:3])
    return TrainingFault(
        "dataset_faults",
        f"{path.name} has {faults.count} faults.",
        evidence=first,
        remedy="Correct the lines named in the evidence; `spotune data check` lists them all.",
    )
