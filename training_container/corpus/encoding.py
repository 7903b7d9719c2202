"""From a channel's file to its store: read, render and encode in blocks, the next one while the last is encoded."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from spotune.contracts.errors import DatasetRefused
from spotune.contracts.request import Objective
from spotune.contracts.training import ObjectiveConfig
from spotune.data.formats import FaultList, read_examples
from spotune.data.preferences import mismatched
from spotune.data.rows import Example, split_hash
from spotune.data.statistics import batches
from spotune.data.template import Rendered
from spotune.data.tokens import EncodedRow, RowTokenizer
from training_container.corpus.store import Encoded, StoreWriter
from training_container.faults import TrainingFault

CHUNK_BYTES = 1 << 20
ROWS: dict[Objective, int] = {"supervised": 1, "dpo": 2, "orpo": 2, "kto": 2}
"""Rows of an example, side by side in the store and in a sequence."""


def chunks(path: Path) -> Iterator[bytes]:
    """A file's bytes, in order."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def encode_file(
    path: Path, tokenizer: RowTokenizer, limit: int, objective: ObjectiveConfig, writer: StoreWriter
) -> None:
    """Write the rows of every example of a JSONL file, each row's first `limit` tokens, `ROWS[objective.type]` rows an
    example: both answers of a preference; of a labelled answer this one and one that belongs to another prompt. Memory
    holds two blocks of examples.

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
            sides = _sides(block, objective.type)
            rendered = [_render(tokenizer, side, example, objective) for example, side in sides]
            begun = encoder.submit(_encode, tokenizer, sides, rendered, limit, objective)
            if waiting is not None:
                writer.add(waiting.result())
            waiting = begun
        if waiting is not None:
            writer.add(waiting.result())
    if faults.count:
        raise _faulty(path, faults)


def _sides(block: list[Example], objective: Objective) -> list[tuple[Example, Example]]:
    """The rows of these examples, each behind the example that it belongs to."""
    if objective == "kto":
        pairs = zip(block, mismatched(block), strict=True)
        return [(example, side) for example, other in pairs for side in (example, other)]
    return [(example, side) for example in block for side in example.sides]


def _render(tokenizer: RowTokenizer, side: Example, example: Example, objective: ObjectiveConfig) -> Rendered:
    try:
        return tokenizer.render(side, objective.loss_on)
    except DatasetRefused:  # a template need not like an answer that belongs to another prompt
        return tokenizer.render(example, objective.loss_on)


def _encode(
    tokenizer: RowTokenizer,
    sides: list[tuple[Example, Example]],
    rendered: list[Rendered],
    limit: int,
    objective: ObjectiveConfig,
) -> list[Encoded]:
    encoded = tokenizer.encode_rendered(rendered, limit)
    rows = []
    for row, (example, side) in zip(encoded, sides, strict=True):
        if side.messages and example.format != "instruction" and objective.loss_on != "all":
            check_coverage(row, example.number)
        rows.append(_row(row, example, first=side is example))
    return rows


def check_coverage(row: EncodedRow, line: int) -> None:
    """Of a chat some tokens are the user's.

    Raises:
        TrainingFault: every token carries loss.
    """
    if len(row.trained) > 1 and all(row.trained[1:]):
        raise TrainingFault(
            "loss_mask_covers_all",
            f"Every token of the chat in line {line} would be learned, the user's too.",
            evidence=f"{sum(row.trained)} of {len(row.trained)} tokens carry loss",
            remedy="Mark the assistant's text in the chat template with {% generation %}, or set loss_on to all.",
        )


def _row(encoded: EncodedRow, example: Example, *, first: bool) -> Encoded:
    """A row that carries no loss after truncation teaches nothing: of it only the digest is kept.

    What the report counts an example by stands at its first row.
    """
    trained = np.array(encoded.trained, dtype=np.bool_)
    trained[:1] = False  # nothing precedes the first token, so nothing can predict it
    kept = len(trained) if trained.any() else 0
    return Encoded(
        np.array(encoded.ids[:kept], dtype=np.int32),
        trained[:kept],
        split_hash(example),
        example.slice if first else "",
        bool(example.choices),
        example.label is not False,
    )


def _faulty(path: Path, faults: FaultList) -> TrainingFault:
    first = "; ".join(f"line {fault.line}, {fault.field}: {fault.message}" for fault in faults.faults[:3])
    return TrainingFault(
        "dataset_faults",
        f"{path.name} has {faults.count} faults.",
        evidence=first,
        remedy="Correct the lines named in the evidence; `spotune data check` lists them all.",
    )
