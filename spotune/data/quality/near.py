"""Near duplicates: MinHash signatures, locality-sensitive hashing, and the exact resemblance of what that brings up.

A row is the set of its shingles, three words in a row; two rows resemble each other by the Jaccard index of their sets.
A signature takes one hash of each shingle and keeps the least of each of 64 bins (one permutation hashing: Li, Owen,
Zhang 2012); a bin that stays empty borrows from another, in an order drawn once (optimal densification: Shrivastava
2017). Rows that agree in four neighbouring bins of 64 meet, and whoever met is compared exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import NamedTuple
from zlib import crc32

from spotune.data.quality.sampling import SampledRow

NEAR = 0.8
"""Jaccard index from which rows count as near duplicates."""
BINS = 64
BAND = 4
"""Bins of a band: rows of index 0.8 meet in one of the 16 bands with a probability of 0.9998, of 0.4 with 0.34."""
WORDS = 3
CHARACTERS = 5
_LONG_WORD = 16
"""Mean letters of a word from which a text has no words: Chinese, Japanese, Thai, base64."""

_random = Random(2017)  # noqa: S311 - an order, no secret
_LENDERS = tuple(
    tuple(_random.sample([other for other in range(BINS) if other != each], BINS - 1)) for each in range(BINS)
)

Signature = tuple[int, ...]


class Pair(NamedTuple):
    """A row that resembles an earlier one, or one of another file."""

    line: int
    other: int
    similarity: float


def near_duplicates(rows: Sequence[SampledRow]) -> list[Pair]:
    """Each row that resembles an earlier one, in the file's order, with the first that was found."""
    return _pairs(rows, rows, same=True)


def near_matches(rows: Sequence[SampledRow], others: Sequence[SampledRow]) -> list[Pair]:
    """Each row that resembles one of another file."""
    return _pairs(rows, others, same=False)


def _pairs(rows: Sequence[SampledRow], others: Sequence[SampledRow], *, same: bool) -> list[Pair]:
    signed = [signature(shingles(row.text)) for row in rows]
    signed_others = signed if same else [signature(shingles(row.text)) for row in others]
    found: dict[int, Pair] = {}
    for start in range(0, BINS, BAND):
        meeting: dict[Signature, int] = {}
        if not same:
            for index, sketch in enumerate(signed_others):
                meeting.setdefault(sketch[start : start + BAND], index)
        for index, sketch in enumerate(signed):
            band = sketch[start : start + BAND]
            met = meeting.setdefault(band, index) if same else meeting.get(band, -1)
            if not sketch or rows[index].number in found or met < 0 or (same and met == index):
                continue
            exact = jaccard(shingles(rows[index].text), shingles(others[met].text))
            if exact >= NEAR:
                found[rows[index].number] = Pair(rows[index].number, others[met].number, exact)
    return [found[line] for line in sorted(found)]


def shingles(text: str) -> set[int]:
    """Hashes of each three words in a row, without case; of each five characters where a text has no words.

    Python's hash of a tuple of integers is well mixed and, unlike that of a string, the same in every process.
    """
    text = text.lower()
    words = text.encode().split()
    if len(text) > _LONG_WORD * len(words):
        pieces: Iterable[str] = (text[at : at + CHARACTERS] for at in range(max(1, len(text) - CHARACTERS + 1)))
        return {hash((crc32(piece.encode()),)) for piece in pieces}
    hashes = list(map(crc32, words))
    if len(hashes) < WORDS:
        return {hash(tuple(hashes))}
    return set(map(hash, zip(hashes, hashes[1:], hashes[2:], strict=False)))


def signature(features: set[int]) -> Signature:
    """The least hash of each bin; empty for no features."""
    if not features:
        return ()
    falling = sorted(features, reverse=True)
    least = dict(zip([each % BINS for each in falling], falling, strict=True))  # the last of a bin stays: its least
    if len(least) == BINS:
        return tuple([least[each] for each in range(BINS)])
    return tuple([least[each] if each in least else _borrowed(least, each) for each in range(BINS)])


def _borrowed(least: dict[int, int], empty: int) -> int:
    return next(least[lender] for lender in _LENDERS[empty] if lender in least)


def estimate(one: Signature, other: Signature) -> float:
    """The Jaccard index that two signatures suggest: the share of bins in which they agree."""
    return sum(a == b for a, b in zip(one, other, strict=True)) / BINS


def jaccard(one: set[int], other: set[int]) -> float:
    """The Jaccard index itself."""
    return len(one & other) / len(one | other) if one or other else 1.0


def lines(pairs: Iterable[Pair]) -> Iterator[tuple[int, str]]:
    """Each pair as a line and words about it."""
    for pair in pairs:
        yield pair.line, f"{pair.similarity:.0%} the same as line {pair.other}"
