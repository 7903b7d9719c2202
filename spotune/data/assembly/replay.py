"""The draw of old rows that are shown again."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from hashlib import blake2b

from spotune.data.assembly.hashes import read_rows
from spotune.data.assembly.passes import Bits
from spotune.data.assembly.sources import Open, Source

_BUCKETS = 2**16


def draw(sources: Sequence[Source], chosen: Sequence[Bits], open: Open, wanted: int, seed: str) -> None:
    """Leave `wanted` of the chosen rows chosen, or all where they are no more.

    Each row draws a number by its content and the seed; the lowest are taken. So the draw does not depend on how the
    rows are spread over files, and every row has the same chance. The numbers are not kept: they are counted by their
    first 16 bits, and only those of the last bucket that is needed are sorted.
    """
    if wanted >= sum(bits.count for bits in chosen):
        return
    counts = array("Q", bytes(8 * _BUCKETS))
    for _, _, number in _numbers(sources, chosen, open, seed):
        counts[number >> 112] += 1
    bucket, left = 0, wanted
    while counts[bucket] <= left:
        left -= counts[bucket]
        bucket += 1
    last: list[tuple[int, Bits, int]] = []
    for bits, row, number in _numbers(sources, chosen, open, seed):
        if number >> 112 == bucket:
            last.append((number, bits, row))
        elif number >> 112 > bucket:
            bits.remove(row)
    last.sort(key=lambda drawn: drawn[0])
    for _, bits, row in last[left:]:
        bits.remove(row)


def drawn_number(key: bytes, seed: str) -> int:
    """128 bits, the same for the same key and seed."""
    return int.from_bytes(blake2b(key, digest_size=16, key=seed.encode()[:64]).digest())


def _numbers(
    sources: Sequence[Source], chosen: Sequence[Bits], open: Open, seed: str
) -> Iterator[tuple[Bits, int, int]]:
    for source, bits in zip(sources, chosen, strict=True):
        _, rows = read_rows(open(source.hashes_uri, ""), source.hashes_uri, source.rows)
        for row, (content, _) in enumerate(rows):
            if row in bits:
                yield bits, row, drawn_number(content, seed)
