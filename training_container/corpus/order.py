"""Which sequences a step takes."""

from __future__ import annotations

import math

import torch

from training_container.corpus.rows import Sequence


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
