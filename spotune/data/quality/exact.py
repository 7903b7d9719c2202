"""Which rows were seen before: a table of hashes whose size does not depend on the file's."""

from __future__ import annotations

from mmap import mmap

MAX_REMEMBERED_ROWS = 2_000_000
_SLOTS = 2**22
"""Twice as many, so that a free slot is near. Eight bytes of hash and eight of line each, 67 MB together, of which the
system gives only those pages that are written to."""


class SeenRows:
    """An open-addressing table from the first 8 bytes of a row's hash to the line where it stood first.

    Two rows of two million have the same 8 bytes with a probability of 10^-7.
    """

    def __init__(self) -> None:
        self._table = memoryview(mmap(-1, _SLOTS * 16)).cast("Q")
        """Hash and line in turn; a line of 0 is a free slot."""
        self.rows = 0
        self.full = False
        """True once a row could not be remembered."""

    def line_of(self, digest: bytes) -> int:
        """Where a row of this hash stood first; 0 where none was seen."""
        return self._table[self._slot(_key(digest)) + 1]

    def seen(self, digest: bytes, line: int) -> int:
        """The same, and a row that was not seen before is remembered, as long as there is room."""
        table, key = self._table, _key(digest)
        slot = self._slot(key)
        if first := table[slot + 1]:
            return first
        if self.rows < MAX_REMEMBERED_ROWS:
            table[slot], table[slot + 1] = key, line
            self.rows += 1
        else:
            self.full = True
        return 0

    def _slot(self, key: int) -> int:
        """The key's slot, or the free one where it belongs."""
        table, slot = self._table, key % _SLOTS * 2
        while table[slot] != key and table[slot + 1]:
            slot = (slot + 2) % (_SLOTS * 2)
        return slot


def _key(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "little")
