"""A bounded sample of rows in which rows that resemble each other are chosen together.

Rows chosen one by one at random would hide near duplicates: of a tenth of the rows, only a hundredth of the pairs. So
what decides is drawn from the row's text: its end is cut into pieces at places that its letters give, and the smallest
hash of a piece is the row's number. Two rows of which nine tenths of the pieces are the same have the same number with
a probability of about nine tenths, and are then both in the sample or both out of it (Broder's min-wise hashing, of one
hash). The same file always gives the same sample.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import NamedTuple
from zlib import crc32

from spotune.data.plain import Checked, PlainChat

TAIL_BYTES = 128
"""Of a row's end that its number is drawn from."""
_FEW = 4


class SampledRow(NamedTuple):
    """A row of the sample."""

    number: int
    """Its line."""
    draw: int
    text: str
    """What is its own: its turns without system prompt and tools, which many rows share."""


class AlikeSample:
    """Keeps the rows of the lowest numbers, as many as fit into the bound."""

    def __init__(self, bound: int) -> None:
        """`bound` in characters of text, which are kept in memory."""
        self._bound = bound
        self._kept: list[tuple[int, int, SampledRow]] = []
        self._characters = 0
        self.limit = 2**64
        """Rows of a draw below it were kept."""

    def offer(self, row: Checked, content: bytes, digest: bytes) -> None:
        """Take a row, or leave it."""
        draw = draw_of(row, content, digest)
        if draw < self.limit:
            self._keep(SampledRow(row.number, draw, own_text(row)))

    def rows(self) -> list[SampledRow]:
        """The sample, in the file's order."""
        return sorted(row for _, _, row in self._kept)

    def _keep(self, row: SampledRow) -> None:
        heappush(self._kept, (-row.draw, row.number, row))
        self._characters += len(row.text)
        while self._characters > self._bound and len(self._kept) > 1:
            _, _, dropped = heappop(self._kept)
            self._characters -= len(dropped.text)
            self.limit = dropped.draw


def draw_of(row: Checked, content: bytes, digest: bytes) -> int:
    """A row's number: 64 bits, the upper half of which it shares with rows that resemble it."""
    if row.tools:
        content = own_text(row).encode()
    tail = content[-TAIL_BYTES:]
    pieces = tail.split(b"e ")
    if len(pieces) < _FEW:
        pieces = tail.split()
    return min(map(crc32, pieces), default=0) << 32 | int.from_bytes(digest[8:12], "little")


def own_text(row: Checked) -> str:
    """A row's text without system prompt and tools; of a preference with both answers."""
    if isinstance(row, PlainChat):
        return "\n".join(row.contents[row.roles[0] == "system" :])
    if row.messages:
        texts = [message.content for message in row.messages if message.role != "system"]
        texts += [call.arguments for message in row.messages for call in message.calls]
    else:
        texts = [row.prompt, row.completion, row.text]
    if row.rejected is not None:
        texts.append(answer_of(row.rejected))
    return "\n".join(filter(None, texts))


def answer_of(row: Checked) -> str:
    """What is learned last: the last turn, the completion or the text."""
    if isinstance(row, PlainChat):
        return row.contents[-1]
    if row.messages:
        return row.messages[-1].content
    return row.completion or row.text


def characters_of(row: Checked) -> int:
    """Of all turns, or of prompt and answer; of a preference both answers."""
    if isinstance(row, PlainChat):
        return sum(map(len, row.contents))
    if row.messages:
        length = sum(len(message.content) for message in row.messages)
    elif row.text:
        length = len(row.text)
    else:
        length = len(row.prompt) + len(row.completion)
    return length if row.rejected is None else length + len(answer_of(row.rejected))
