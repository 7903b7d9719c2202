"""How much there is to train on: lengths, tokens and sequences, counted or, failing that, estimated from bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from spotune.contracts.dataset import DatasetReport
from spotune.contracts.errors import DatasetRefused

BYTES_PER_TOKEN = 4
"""JSON's quotes and keys weigh up what other scripts than Latin cost."""

PACKING_FILL = 0.95
"""Share of a packed sequence that first-fit leaves filled."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens a row: `mean` of both answers of a preference together, `p95` and `longest` of the longer one."""

    mean: float
    p95: int
    longest: int
    counted: bool
    """False where they are guessed from bytes."""


@dataclass(frozen=True, slots=True)
class Volume:
    """What one epoch reads, and what an evaluation reads."""

    rows: int
    sequences: int
    """What a batch counts: packed sequences where packing is on, else rows."""
    row_sequences: int
    """Sequences in one of those: two of a preference."""
    tokens: int
    evaluation_tokens: int

    @property
    def typical_length(self) -> int:
        """Tokens of a sequence."""
        return max(self.tokens // (self.sequences * self.row_sequences), 1)


def row_lengths(report: DatasetReport) -> Lengths:
    """Lengths by the model's tokenizer, or a guess: the mean from bytes, 2 and 4 times that for p95 and longest.

    Raises:
        DatasetRefused: there is no row to train on.
    """
    if report.rows == 0:
        raise DatasetRefused(
            f"{report.uri} has no rows.", code="dataset_empty", param="training_file", remedy="Give it examples."
        )
    tokens = report.tokens
    if tokens is not None and tokens.rows > 0:
        return Lengths(mean=tokens.mean, p95=max(tokens.p95, 1), longest=max(tokens.longest, 1), counted=True)
    mean = max(report.bytes / report.rows / BYTES_PER_TOKEN, 1.0)
    return Lengths(mean=mean, p95=math.ceil(2 * mean), longest=math.ceil(4 * mean), counted=False)


def measure_volume(
    training: DatasetReport,
    validation: DatasetReport | None,
    *,
    sequence_length: int,
    packing: bool,
    eval_fraction: float,
    row_sequences: int = 1,
) -> Volume:
    """The size of an epoch. Without a validation file, `eval_fraction` of the rows are held out.

    Args:
        row_sequences: sequences a row.
    """
    longest = sequence_length * row_sequences
    mean = min(row_lengths(training).mean, longest)
    held_out = 0 if validation is not None else min(math.ceil(training.rows * eval_fraction), training.rows - 1)
    rows = training.rows - held_out
    tokens = math.ceil(rows * mean)
    sequences = min(rows, math.ceil(tokens / (sequence_length * PACKING_FILL))) if packing else rows
    evaluated = held_out * mean
    if validation is not None and validation.rows > 0:
        evaluated = validation.rows * min(row_lengths(validation).mean, longest)
    return Volume(
        rows=rows,
        sequences=sequences,
        row_sequences=row_sequences,
        tokens=tokens,
        evaluation_tokens=math.ceil(evaluated),
    )
