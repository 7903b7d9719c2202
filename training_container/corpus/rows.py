"""One example's tokens, and what lies side by side in one line of a batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

UNKNOWN = float("nan")


@dataclass(frozen=True, slots=True)
class Row:
    """One example's tokens. `trained[i]` says that token `i` carries loss; the first never does.

    Shapes: `ids` (length,) int32, `trained` (length,) bool.
    """

    ids: torch.Tensor
    trained: torch.Tensor
    slice: str = ""
    """The part of the data that it counts to in the report; empty for none."""
    desirable: bool = True
    """Of a labelled answer: whether it is a good one."""
    reference: float = UNKNOWN
    """Log-probability, in nats, that the base model gives to the tokens with loss; where the objective asks for it."""

    def __len__(self) -> int:
        return len(self.ids)


Sequence = tuple[Row, ...]
"""Rows that lie side by side in one line of a batch."""


def tokens_in(sequence: Sequence) -> int:
    """Tokens of all rows, padding not counted."""
    return sum(len(row) for row in sequence)


def targets_in(sequences: Iterable[Sequence]) -> int:
    """Tokens that carry loss."""
    return sum(int(row.trained.sum()) for sequence in sequences for row in sequence)
