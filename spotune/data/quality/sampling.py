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

from spotune.data.rows import Example

TAIL_BYTES = 256
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

    def offer(self, example: Example, content: bytes, digest: bytes) -> None:
        """Take a row, or leave it."""
        draw = draw_of(example, content, digest)
        if draw < self.limit:
            self._keep(SampledRow(example.number, draw, own_text(example)))

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


def draw_of(example: Example, content: bytes, digest: bytes) -> int:
    """A row's number: 64 bits, the upper half of which it shares with rows that resemble it."""
    if example.tools:
        content = own_text(example).encode()
    tail = content[-TAIL_BYTES:]
    pieces = tail.split(b"e ")
    if len(pieces) < _FEW:
        pieces = tail.split()
    return min(map(crc32, pieces), default=0) << 32 | int.from_bytes(digest[8:12], "little")


def own_text(example: Example) -> str:
    """A row's text without system prompt and tools; of a preference with both answers."""
    if example.messages:
        texts = [message.content for message in example.messages if message.role != "system"]
        texts += [call.arguments for message in example.messages for call in message.calls]
    else:
        texts = [example.prompt, example.completion, example.text]
    if example.rejected is not None:
        texts.append(answer_of(example.rejected))
    return "\n".join(filter(None, texts))


def answer_of(example: Example) -> str:
    """What is learned last: the last turn, the completion or the text."""
    if example.messages:
        return example.messages[-1].content
    return example.completion or example.text
