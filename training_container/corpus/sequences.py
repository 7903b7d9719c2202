"""Which rows lie side by side: one each, or packed."""

from __future__ import annotations

from collections import abc
from collections.abc import Callable
from typing import overload

import numpy as np
from numpy.typing import NDArray

from spotune.data.packing import pack
from training_container.corpus.rows import Row, Sequence
from training_container.corpus.store import TokenStore

PACKED_AT_ONCE = 8192
"""Rows among which first-fit decreasing looks for neighbours."""

Numbers = NDArray[np.int64]


class Sequences(abc.Sequence[Sequence]):
    """Rows in sequences, read when they are asked for. Memory holds 8 bytes a row and 16 a sequence."""

    def __init__(self, read: Callable[[int], Row], rows: Numbers, begins: Numbers, lengths: Numbers) -> None:
        """
        Args:
            read: gives the row of a number.
            rows: the rows' numbers, sequence after sequence.
            begins: where in `rows` each sequence begins, and last where the last one ends.
            lengths: tokens of each sequence.
        """
        self.lengths = lengths
        self.rows = rows
        self.row = read
        self._begins = begins

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, index: int) -> Sequence: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sequence]: ...
    def __getitem__(self, index: int | slice) -> Sequence | list[Sequence]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        rows = self.rows[self._begins[number] : self._begins[number + 1]]
        return tuple(self.row(int(row)) for row in rows)

    def changed(self, change: Callable[[int, Row], Row]) -> Sequences:
        """The same sequences of rows that are changed, by number, when they are read."""
        read = self.row
        return Sequences(lambda number: change(number, read(number)), self.rows, self._begins, self.lengths)

    def apart(self) -> Sequences:
        """The same rows in the same order, each by itself."""
        lengths = np.array([len(self.row(int(row))) for row in self.rows])
        return Sequences(self.row, self.rows, np.arange(len(self.rows) + 1), lengths)


def one_each(store: TokenStore, rows: Numbers, together: int = 1) -> Sequences:
    """Each `together` of these rows as one sequence, none beside another."""
    begins = np.arange(0, len(rows) + 1, together)
    return Sequences(store.row, rows, begins, store.lengths[rows].astype(np.int64).reshape(-1, together).sum(axis=1))


def packed(store: TokenStore, rows: Numbers, capacity: int, seed: int) -> Sequences:
    """These rows packed into sequences of at most `capacity` tokens, first-fit decreasing over a window at a time.

    The windows are drawn by seed, since a file that is sorted by length has windows that fill badly.
    """
    order = np.random.default_rng(seed).permutation(rows)
    groups: list[Numbers] = []
    for start in range(0, len(order), PACKED_AT_ONCE):
        window = np.sort(order[start : start + PACKED_AT_ONCE])
        found = pack(store.lengths[window].tolist(), capacity)
        groups += [window[group] for group in found]
    flat = np.concatenate(groups)
    begins = np.cumsum([0, *map(len, groups)])
    return Sequences(store.row, flat, begins, np.add.reduceat(store.lengths[flat].astype(np.int64), begins[:-1]))
