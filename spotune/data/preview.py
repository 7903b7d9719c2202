"""What a model would read of a row, and what of it would be learned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from spotune.contracts.request import LossOn
from spotune.data.rows import Example
from spotune.data.tokens import EncodedRow, RowTokenizer

Verdict = Literal["", "preferred", "rejected", "good", "bad"]


@dataclass(frozen=True, slots=True)
class Piece:
    """Text of neighbouring tokens that are all learned, or all not."""

    text: str
    trained: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """One sequence. `tokens` and `trained` count after truncation, `length` before it."""

    line: int
    verdict: Verdict
    pieces: tuple[Piece, ...]
    tokens: int
    trained: int
    length: int

    @property
    def coverage(self) -> float:
        """Share of the tokens that is learned."""
        return self.trained / self.tokens if self.tokens else 0.0


def preview(example: Example, tokenizer: RowTokenizer, *, max_length: int, loss_on: LossOn) -> Iterator[Shown]:
    """The row's sequence, or both of a preference. What is judged has its loss on the answer, whatever `loss_on` is.

    Raises:
        DatasetRefused: the chat template refuses the row.
        RequestRefused: the model cannot be trained on such rows.
    """
    judged = example.format in ("preference", "labelled")
    for side, verdict in zip(example.sides, _verdicts(example), strict=True):
        row = tokenizer.encode(side, max_length, "assistant" if judged else loss_on)
        pieces = tuple(_pieces(row, tokenizer))
        yield Shown(example.number, verdict, pieces, len(row.ids), sum(row.trained), row.length)


def _verdicts(example: Example) -> tuple[Verdict, ...]:
    if example.rejected is not None:
        return "preferred", "rejected"
    if example.label is None:
        return ("",)
    return ("good",) if example.label else ("bad",)


def _pieces(row: EncodedRow, tokenizer: RowTokenizer) -> Iterator[Piece]:
    """Each piece is what its tokens add to the text before them: decoded alone, many lose their first space."""
    whole = tokenizer.decode(row.ids)
    begin = position = 0
    for trained, tokens in groupby(row.trained):
        position += sum(1 for _ in tokens)
        end = len(whole) if position == len(row.ids) else len(tokenizer.decode(row.ids[:position]))
        yield Piece(whole[begin:end], trained)
        begin = end
