"""Which rows of accepted files a retraining trains on, from their hashes alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Literal

from spotune.contracts.rules import ManifestEntry, Selection
from spotune.data.assembly.hashes import read_keys, read_rows, write_keys
from spotune.data.assembly.passes import Bits, Range, ranges
from spotune.data.assembly.picked import entry_of, picked_rows
from spotune.data.assembly.refusals import mixed_formats
from spotune.data.assembly.replay import draw
from spotune.data.assembly.sources import Open, Source

NOTHING: frozenset[bytes] = frozenset()


def count_new(sources: Sequence[Source], open: Open, *, known_uri: str | None, keys_uri: str | None) -> int:
    """How many rows a retraining on new data would have: without duplicates, the champion's and the frozen set's.

    Args:
        sources: accepted files, in the order in which they were.
        known_uri: key file of the rows that the champion was trained on; None where there is no champion.
        keys_uri: key file of the frozen set; None before it is carved.

    Raises:
        HashesDamaged, DatasetRefused: as `choose_rows`.
    """
    return sum(bits.count for bits in first_of_each(sources, open, known_uri, frozen_keys(open, keys_uri)))


def choose_rows(
    new: Sequence[Source],
    old: Sequence[Source],
    open: Open,
    *,
    selection: Selection,
    number: int,
    known_uri: str | None,
    keys_uri: str | None,
) -> tuple[ManifestEntry, ...]:
    """The rows of one retraining: entries in the order of its dataset, the new files first. The same arguments give the
    same entries; files that give no row have an entry all the same.

    Of rows of equal content the first is taken. None that the frozen set has, or whose prompt it has, is.

    Args:
        new: accepted files since the champion, in the order in which they were.
        old: those before, from which replay is drawn; not read for `selection.rows` of `new`.
        number: the retraining's, which gives each one a draw of its own.
        known_uri, keys_uri: as in `count_new`.

    Raises:
        HashesDamaged: a hash file is not whole, or not of its data.
        DatasetRefused: two files have rows of different formats (code `mixed_formats`).
    """
    frozen = frozen_keys(open, keys_uri)
    refuse_mixed([*new, *old] if selection.rows != "new" else new, open)
    if selection.rows == "all":
        taken = first_of_each([*new, *old], open, None, frozen)
        return (*_entries(new, taken[: len(new)], "new"), *_entries(old, taken[len(new) :], "replay"))
    fresh = first_of_each(new, open, known_uri, frozen)
    entries = _entries(new, fresh, "new")
    if selection.rows == "new" or known_uri is None:
        return entries
    share = selection.replay_share
    wanted = round(sum(bits.count for bits in fresh) * share / (1 - share))
    again = _known_of(old, open, known_uri, frozen)
    draw(old, again, open, wanted, f"{selection.seed}/{number}")
    return (*entries, *_entries(old, again, "replay"))


def known_after(
    sources: Sequence[Source], entries: Sequence[ManifestEntry], open: Open, *, earlier_uri: str | None
) -> Iterator[bytes]:
    """The key file, in chunks, of what a model knows once it was trained on these entries.

    Args:
        sources: of each entry, in the same order.
        earlier_uri: key file of what it knew before, where training went on from its adapter.
    """
    chosen = [picked_rows(entry) for entry in entries]
    total = sum(source.rows for source in sources) + _count(open, earlier_uri)

    def keys() -> Iterator[bytes]:
        for part in ranges(total):
            found = _keys_within(open, earlier_uri, part)
            for source, bits in zip(sources, chosen, strict=True):
                for row, (content, _) in enumerate(row_hashes(source, open)):
                    if part.low <= content < part.high and row in bits:
                        found.add(content)
            yield from sorted(found)

    return write_keys(keys())


def first_of_each(
    sources: Sequence[Source], open: Open, known_uri: str | None, frozen: Collection[bytes]
) -> list[Bits]:
    """The first row of each content that is neither known nor frozen, as bits of each file."""
    chosen = [Bits(source.rows) for source in sources]
    for part in ranges(sum(source.rows for source in sources) + _count(open, known_uri)):
        seen = _keys_within(open, known_uri, part)
        for source, bits in zip(sources, chosen, strict=True):
            for row, (content, prompt) in enumerate(row_hashes(source, open)):
                if part.low <= content < part.high and content not in seen:
                    seen.add(content)
                    if content not in frozen and prompt not in frozen:
                        bits.add(row)
    return chosen


def _known_of(sources: Sequence[Source], open: Open, known_uri: str, frozen: Collection[bytes]) -> list[Bits]:
    """The first row of each content that is known."""
    chosen = [Bits(source.rows) for source in sources]
    for part in ranges(_count(open, known_uri)):
        left = _keys_within(open, known_uri, part)
        for source, bits in zip(sources, chosen, strict=True):
            for row, (content, prompt) in enumerate(row_hashes(source, open)):
                if content in left:
                    left.remove(content)
                    if content not in frozen and prompt not in frozen:
                        bits.add(row)
    return chosen


def row_hashes(source: Source, open: Open) -> Iterator[tuple[bytes, bytes]]:
    """A file's rows, by the hashes of their content and their prompt."""
    return read_rows(open(source.hashes_uri, ""), source.hashes_uri, source.rows)[1]


def refuse_mixed(sources: Sequence[Source], open: Open) -> None:
    """Refuse files of different formats, by name. Raises `DatasetRefused`."""
    first = None
    for source in sources:
        found, _ = read_rows(open(source.hashes_uri, ""), source.hashes_uri, source.rows)
        first = first or (source.uri, found)
        if found != first[1]:
            raise mixed_formats(*first, source.uri, found)


def frozen_keys(open: Open, keys_uri: str | None) -> frozenset[bytes]:
    """The frozen set's keys; they are few."""
    return NOTHING if keys_uri is None else frozenset(read_keys(open(keys_uri, ""), keys_uri))


def _keys_within(open: Open, uri: str | None, part: Range) -> set[bytes]:
    if uri is None:
        return set()
    return {key for key in read_keys(open(uri, ""), uri) if part.low <= key < part.high}


def _count(open: Open, uri: str | None) -> int:
    return 0 if uri is None else sum(1 for _ in read_keys(open(uri, ""), uri))


def _entries(
    sources: Sequence[Source], chosen: Sequence[Bits], role: Literal["new", "replay"]
) -> tuple[ManifestEntry, ...]:
    return tuple(entry_of(source, bits, role) for source, bits in zip(sources, chosen, strict=True))
