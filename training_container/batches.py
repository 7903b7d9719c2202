"""Sequences become tensors; an epoch becomes an order of global batches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from training_container.rows import Sequence


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines of packed rows, padded to the longest.

    Shapes: `ids` and `positions` (lines, length). Positions start again at 0 with each row, which is how attention
    is kept inside a row; padding is all zeros, so each padding token is a row of its own. `kept` (k,) are the
    positions at which any line has a target, `chosen` (lines, k) which of them count, `targets` (n,) the tokens to
    predict there, line by line.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    kept: torch.Tensor
    chosen: torch.Tensor
    targets: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return Batch(*(getattr(self, name).to(device, non_blocking=True) for name in self.__slots__))


def collate(sequences: list[Sequence], pad: int) -> Batch:
    """One batch of these sequences."""
    length = max(tokens_in(sequence) for sequence in sequences)
    shape = (len(sequences), length)
    ids = torch.full(shape, pad, dtype=torch.long)
    positions = torch.zeros(shape, dtype=torch.long)
    predicts = torch.zeros(shape, dtype=torch.bool)
    for line, sequence in enumerate(sequences):
        start = 0
        for row in sequence:
            end = start + len(row)
            ids[line, start:end] = row.ids
            positions[line, start:end] = torch.arange(len(row))
            predicts[line, start : end - 1] = row.trained[1:]
            start = end
    kept = predicts.any(dim=0).nonzero().squeeze(1)
    return Batch(ids, positions, kept, predicts[:, kept], ids.roll(-1, dims=1)[predicts])


def tokens_in(sequence: Sequence) -> int:
    """Tokens of all rows, padding not counted."""
    return sum(len(row) for row in sequence)


def targets_in(sequences: list[Sequence]) -> int:
    """Tokens that carry loss."""
    return sum(int(row.trained.sum()) for sequence in sequences for row in sequence)


def split(sequences: list[Sequence], size: int) -> Iterator[list[Sequence]]:
    """Micro-batches of at most `size` sequences, in order."""
    for start in range(0, len(sequences), size):
        yield sequences[start : start + size]


class DataOrder:
    """Which sequences step `n` takes. It follows from the seed alone, so a step number is a position in the data."""

    def __init__(self, sequences: tuple[Sequence, ...], *, global_batch: int, epochs: int, seed: int) -> None:
        self._sequences = sequences
        self._global_batch = global_batch
        self._seed = seed
        self.steps_per_epoch = math.ceil(len(sequences) / global_batch)
        self.total_steps = self.steps_per_epoch * epochs
        self._order: tuple[int, list[int]] = (-1, [])

    def at(self, step: int) -> list[Sequence]:
        """The global batch of step `step`, counted from 0; an epoch's last one may be smaller."""
        epoch, index = divmod(step, self.steps_per_epoch)
        start = index * self._global_batch
        return [self._sequences[number] for number in self._epoch(epoch)[start : start + self._global_batch]]

    def _epoch(self, epoch: int) -> list[int]:
        if self._order[0] != epoch:
            generator = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)
            self._order = (epoch, torch.randperm(len(self._sequences), generator=generator).tolist())
        return self._order[1]
