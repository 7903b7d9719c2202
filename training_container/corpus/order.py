"""Which sequences a step takes."""

from __future__ import annotations

import math

import numpy as np
import torch

from training_container.corpus.rows import Sequence
from training_container.corpus.sequences import Numbers, Sequences

GROUPED_BATCHES = 16
"""Global batches whose sequences are sorted by length together, so that each pads little."""


class DataOrder:
    """Which sequences step `n` takes. It follows from the seed alone, so a step number is a position in the data."""

    def __init__(self, sequences: Sequences, *, global_batch: int, epochs: int, seed: int, grouped: bool) -> None:
        """`grouped`: sequences of similar length share a batch, the longest first. Packed ones are all about full."""
        self._sequences = sequences
        self._global_batch = global_batch
        self._seed = seed
        self._grouped = grouped
        self.steps_per_epoch = math.ceil(len(sequences) / global_batch)
        self.total_steps = self.steps_per_epoch * epochs
        self._order: tuple[int, Numbers] = (-1, np.empty(0, np.int64))

    def at(self, step: int) -> list[Sequence]:
        """The global batch of step `step`, counted from 0; an epoch's last one may be smaller."""
        epoch, index = divmod(step, self.steps_per_epoch)
        start = index * self._global_batch
        return [self._sequences[int(number)] for number in self._epoch(epoch)[start : start + self._global_batch]]

    def longest(self, count: int) -> list[Sequence]:
        """The longest sequences of all."""
        numbers = np.argsort(-self._sequences.lengths, kind="stable")[:count]
        return [self._sequences[int(number)] for number in numbers]

    def _epoch(self, epoch: int) -> Numbers:
        if self._order[0] != epoch:
            generator = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)
            drawn = torch.randperm(len(self._sequences), generator=generator).numpy()
            self._order = (epoch, self._by_length(drawn, generator) if self._grouped else drawn)
        return self._order[1]

    def _by_length(self, drawn: Numbers, generator: torch.Generator) -> Numbers:
        """The same order with sequences of similar length in each batch, and the batches again in random order.

        The epoch's last, smaller batch stays the last, and is random.
        """
        size, lengths = self._global_batch, self._sequences.lengths
        full = len(drawn) // size * size
        windows = np.split(drawn[:full], range(size * GROUPED_BATCHES, full, size * GROUPED_BATCHES))
        batches = np.concatenate([_longest_first(window, lengths) for window in windows]).reshape(-1, size)
        mixed = batches[torch.randperm(len(batches), generator=generator).numpy()].ravel()
        return np.concatenate([mixed, _longest_first(drawn[full:], lengths)])


def _longest_first(numbers: Numbers, lengths: Numbers) -> Numbers:
    return numbers[np.argsort(-lengths[numbers], kind="stable")]
