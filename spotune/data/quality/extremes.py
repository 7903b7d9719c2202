"""Rows that are empty in effect, and rows that are out of all proportion."""

from __future__ import annotations

import re
from heapq import heappush, heappushpop

from spotune.contracts.quality import MAX_FINDINGS

SHORT_CHARACTERS = 8
LONG_CHARACTERS = 8_000
"""Of a row that may be too long; it also has to be ten times as long as 95 % of the rows are."""
LONG_FACTOR = 10
LONGEST_PLACEHOLDER = 16
"""Characters of an answer that may say nothing."""

_NOTHING = re.compile(
    r"[\W_]*|[\W_]*(?:n/?a|null|none|nil|nan|undefined|todo|tbd|deleted|removed|empty|no answer|lorem ipsum)[\W_]*",
    re.IGNORECASE,
)


def says_nothing(answer: str) -> bool:
    """True of an answer without a letter or digit (or sign beyond ASCII), and of what programs write for nothing."""
    return answer.isascii() and _NOTHING.fullmatch(answer) is not None


class Longest:
    """The longest rows, since only at the end is known what is too long."""

    def __init__(self) -> None:
        self._kept: list[tuple[int, int]] = []

    def add(self, length: int, line: int) -> None:
        """A row that may be too long."""
        if len(self._kept) < MAX_FINDINGS:
            heappush(self._kept, (length, -line))
        else:
            heappushpop(self._kept, (length, -line))

    def beyond(self, length: int) -> list[tuple[int, int]]:
        """Line and length of those that are longer, in the file's order."""
        return sorted((-line, length_) for length_, line in self._kept if length_ > length)
