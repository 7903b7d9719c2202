"""Sets of hashes that are larger than memory, a part of the hashes after the other.

A set of 16-byte hashes takes Python about 128 bytes each. So hash files are read several times, each time for one range
of hashes: equal ones always fall into the same range.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

BUDGET_BYTES = 256 * 1024**2
"""What one pass keeps in memory at most; the bits of the choice come on top, one for each row."""
HASH_BYTES = 128
"""Of one hash in a set, with the set's own share (measured: 90 to 120 on 64 bits)."""

_ABOVE_ALL = b"\xff" * 17


@dataclass(frozen=True, slots=True)
class Range:
    """Hashes from `low` up to but not `high`."""

    low: bytes
    high: bytes


def ranges(hashes: int) -> Iterator[Range]:
    """The ranges to go through one after the other, ascending, so that so many hashes in all fit into the budget."""
    parts = min(2**16, max(1, -(-hashes * HASH_BYTES // BUDGET_BYTES)))
    cuts = [(number * 2**16 // parts).to_bytes(2, "big") for number in range(parts)]
    for low, high in zip(cuts, [*cuts[1:], _ABOVE_ALL], strict=True):
        yield Range(low, high)


@dataclass(slots=True)
class Bits:
    """One bit for each row of a file: whether it is taken."""

    rows: int
    data: bytearray = field(init=False)

    def __post_init__(self) -> None:
        self.data = bytearray(-(-self.rows // 8))

    def add(self, row: int) -> None:
        """Take a row, counted from 0."""
        self.data[row >> 3] |= 1 << (row & 7)

    def add_all(self) -> None:
        """Take every row."""
        self.data = bytearray(((1 << self.rows) - 1).to_bytes(len(self.data), "little"))

    def remove(self, row: int) -> None:
        """Leave a row."""
        self.data[row >> 3] &= ~(1 << (row & 7))

    def __contains__(self, row: int) -> bool:
        return bool(self.data[row >> 3] >> (row & 7) & 1)

    @property
    def count(self) -> int:
        """Rows that are taken."""
        return int.from_bytes(self.data).bit_count()
