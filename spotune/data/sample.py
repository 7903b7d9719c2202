"""A random sample of rows within a bound of bytes, from a stream of unknown length."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from heapq import heappop, heappush

from spotune.data.rows import Example


class Sample:
    """Keeps the rows whose drawn numbers are the highest, as many as fit into the bound.

    The number is drawn by hash of the line number, so the same file gives the same sample, and every row has the same
    chance, long or short.
    """

    def __init__(self, bound: int | None) -> None:
        """`bound` in bytes of lines, which are kept in memory; None takes every row and keeps none."""
        self._bound = bound
        self._rows = self._kept_rows = 0
        self._bytes = self._kept_bytes = 0

    @property
    def share(self) -> float:
        """Share of the bytes that was chosen."""
        return self._kept_bytes / self._bytes if self._bytes else 1.0

    @property
    def scale(self) -> float:
        """Rows seen for each row chosen."""
        return self._rows / self._kept_rows if self._kept_rows else 1.0

    def choose(self, examples: Iterator[Example]) -> Iterator[Example]:
        """The chosen rows, in the file's order."""
        if self._bound is None:
            return examples
        return self._within(self._bound, examples)

    def _within(self, bound: int, examples: Iterator[Example]) -> Iterator[Example]:
        kept: list[tuple[int, int, Example]] = []
        dropped = 0
        for example in examples:
            self._rows += 1
            self._bytes += example.size
            drawn = _draw(example.number)
            if drawn < dropped:
                continue
            heappush(kept, (drawn, example.number, example))
            self._kept_bytes += example.size
            while self._kept_bytes > bound and len(kept) > 1:
                dropped, _, row = heappop(kept)
                self._kept_bytes -= row.size
        self._kept_rows = len(kept)
        yield from sorted((example for _, _, example in kept), key=lambda example: example.number)


def _draw(number: int) -> int:
    return int.from_bytes(blake2b(number.to_bytes(8, "big"), digest_size=8).digest(), "big")
