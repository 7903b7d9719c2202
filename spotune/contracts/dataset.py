"""What is known of a dataset before a job starts."""

from __future__ import annotations

from typing import Literal

from spotune.contracts.base import Contract, Fraction

RowFormat = Literal["chat", "instruction", "completion", "text", "preference", "labelled"]
"""A preference row has two answers to one prompt, of which the first is preferred; a labelled row has one answer that
is good or bad."""

MAX_FAULTS = 100
"""How many faults a report lists one by one; the rest are counted."""


class Fault(Contract):
    """One thing wrong with one line.

    `line` counts from 1; 0 is the file as a whole. `field` is a dotted path such as `messages[2].role`.
    """

    line: int
    field: str
    rule: str
    message: str
    remedy: str


class TokenStatistics(Contract):
    """Lengths in tokens after rendering, by the model's own tokenizer.

    `mean`, `p50`, `p95` and `longest` are before truncation. Of a sample, counts are scaled up to the whole file. Of a
    preference `p50`, `p95` and `longest` are the longer sequence's; `mean`, `total` and `trained` count both.
    """

    rows: int
    total: int
    """Tokens of all rows, after truncation: what one epoch reads."""
    trained: int
    """Tokens that carry loss, after truncation."""
    mean: float
    p50: int
    p95: int
    longest: int
    truncated_rows: int
    """Rows longer than the limit."""
    untrainable_rows: int
    """Rows of which truncation leaves no token with loss, of either answer; a dataset of nothing else is refused."""

    @property
    def coverage(self) -> float:
        """Share of the tokens that carry loss."""
        return self.trained / self.total if self.total else 0.0


class DatasetReport(Contract):
    """One file, checked."""

    uri: str
    sha256: str
    bytes: int
    rows: int
    format: RowFormat | None
    """None where no row could be read."""
    fault_count: int = 0
    faults: tuple[Fault, ...] = ()
    duplicate_rows: int = 0
    """Rows that repeat an earlier one exactly."""
    tokens: TokenStatistics | None = None
    sampled: Fraction = 1.0
    """Share of the bytes that was read for the token statistics."""
    warnings: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """True where the dataset may be trained on."""
        return self.fault_count == 0 and self.rows > 0


class GoldenReport(Contract):
    """One file of golden prompts, checked."""

    uri: str
    sha256: str
    bytes: int
    prompts: int
    prompt_tokens: int
    """Of all prompts, by the model's tokenizer; guessed from bytes without one."""
    answer_tokens: int
    """That an answer may have: room for the longest expectation."""
    fault_count: int = 0
    faults: tuple[Fault, ...] = ()

    @property
    def ok(self) -> bool:
        """True where a model may be judged by it."""
        return self.fault_count == 0 and self.prompts > 0
