"""The frozen evaluation set: carved once from a rule's first data, by the rows' hashes.

What is frozen is prompts: all rows that ask the same are frozen together, so that no answer to a frozen prompt is ever
trained on. A prompt that very many rows share says nothing about a row; its rows are frozen one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from spotune.contracts.errors import DatasetRefused
from spotune.contracts.rules import FrozenSet, ManifestEntry
from spotune.data.assembly.choosing import NOTHING, first_of_each, refuse_mixed, row_hashes
from spotune.data.assembly.hashes import write_keys
from spotune.data.assembly.passes import Bits, ranges
from spotune.data.assembly.picked import entry_of
from spotune.data.assembly.replay import drawn_number
from spotune.data.assembly.sources import Open, Source

FEW = 10
"""Rows that may always be frozen together."""
MUCH = 4
"""A prompt is frozen as a whole where its rows are no more than one part in so many of the set."""


@dataclass(frozen=True, slots=True)
class Carved:
    """The frozen set: its rows, and the keys by which it is kept out of every training set."""

    entries: tuple[ManifestEntry, ...]
    keys: tuple[bytes, ...]

    @property
    def rows(self) -> int:
        """In the set."""
        return sum(entry.taken for entry in self.entries)

    def key_file(self) -> Iterator[bytes]:
        """In chunks."""
        return write_keys(self.keys)


def carve(
    sources: Sequence[Source], open: Open, *, frozen: FrozenSet, rule_id: str, known_uri: str | None = None
) -> Carved:
    """Choose the evaluation set of a rule.

    Neither the order of the files nor where one ends and the next begins matters: what is drawn is a hash of the prompt
    (of the row, where its prompt is shared by too many) under the rule's id.

    Args:
        known_uri: key file of rows that the champion was trained on already: on these it would look better than it is.

    Raises:
        HashesDamaged: a hash file is not whole, or not of its data.
        DatasetRefused: files of different formats (code `mixed_formats`), or too few rows (`too_few_rows`).
    """
    refuse_mixed(sources, open)
    distinct = first_of_each(sources, open, known_uri, NOTHING)
    rows = sum(bits.count for bits in distinct)
    if rows < 2:
        raise DatasetRefused(
            f"An evaluation set cannot be carved from {rows} distinct row(s).",
            code="too_few_rows",
            remedy="Wait for more data; trigger.min_rows keeps a rule from firing before.",
        )
    wanted = min(frozen.max_rows, max(1, int(rows * frozen.fraction)))
    largest = min(frozen.max_rows, max(FEW, wanted // MUCH), rows // 2)
    units = _units(sources, distinct, open, largest)
    keys = frozenset(_drawn(units, wanted, frozen.max_rows, rule_id))
    entries = tuple(_frozen_rows(source, bits, open, keys) for source, bits in zip(sources, distinct, strict=True))
    return Carved(entries, tuple(sorted(keys)))


def _drawn(units: Iterator[tuple[bytes, int]], wanted: int, most: int, rule_id: str) -> Iterator[bytes]:
    """Keys in the order of their draw, until they have the wanted rows."""
    heap: list[tuple[int, bytes, int]] = []
    held = 0
    for key, rows in units:
        heappush(heap, (-drawn_number(key, rule_id), key, rows))
        held += rows
        while held - heap[0][2] >= wanted:
            held -= heappop(heap)[2]
    frozen = 0
    for _, key, rows in sorted(heap, reverse=True):
        if frozen >= wanted or frozen + rows > most:
            return
        frozen += rows
        yield key


def _units(
    sources: Sequence[Source], distinct: Sequence[Bits], open: Open, largest: int
) -> Iterator[tuple[bytes, int]]:
    """What is frozen together, and how many rows it has: a prompt, or one row of a prompt that too many share."""
    for part in ranges(sum(source.rows for source in sources)):

        def within(low: bytes = part.low, high: bytes = part.high) -> Iterator[tuple[bytes, bytes]]:
            for source, bits in zip(sources, distinct, strict=True):
                for row, (content, prompt) in enumerate(row_hashes(source, open)):
                    if low <= prompt < high and row in bits:
                        yield content, prompt

        rows = Counter(prompt for _, prompt in within())
        yield from ((prompt, count) for prompt, count in rows.items() if count <= largest)
        if any(count > largest for count in rows.values()):
            yield from ((content, 1) for content, prompt in within() if rows[prompt] > largest)


def _frozen_rows(source: Source, distinct: Bits, open: Open, keys: frozenset[bytes]) -> ManifestEntry:
    bits = Bits(source.rows)
    for row, (content, prompt) in enumerate(row_hashes(source, open)):
        if row in distinct and (content in keys or prompt in keys):
            bits.add(row)
    return entry_of(source, bits, "frozen")
