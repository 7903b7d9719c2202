"""How long rows are: quantiles, a histogram, and what limits would cut off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from math import isqrt

from spotune.contracts.quality import Bin, Lengths, Truncation, Unit

LIMITS = (512, 1024, 2048, 4096, 8192, 16_384, 32_768)
CHARACTERS_PER_TOKEN = 4
"""Of English prose, about; of code and other languages fewer."""


def lengths_of(counts: Mapping[int, int], unit: Unit) -> Lengths | None:
    """The distribution of rows counted by their length; None for no rows."""
    rows = sum(counts.values())
    if not rows:
        return None
    ordered = sorted(counts.items())
    return Lengths(
        unit=unit,
        rows=rows,
        mean=sum(length * count for length, count in ordered) / rows,
        shortest=ordered[0][0],
        p50=_quantile(ordered, 0.5 * rows),
        p95=_quantile(ordered, 0.95 * rows),
        p99=_quantile(ordered, 0.99 * rows),
        longest=ordered[-1][0],
        bins=tuple(_bins(ordered)),
    )


def truncation(counts: Mapping[int, int], max_length: int, unit: Unit) -> Iterator[Truncation]:
    """What each of the usual limits, and `max_length`, would cut off; up to the first that cuts nothing."""
    size = CHARACTERS_PER_TOKEN if unit == "characters" else 1
    for limit in sorted({*LIMITS, max_length}):
        longer = [(length, count) for length, count in counts.items() if length > limit * size]
        lost = sum((length - limit * size) * count for length, count in longer) // size
        yield Truncation(limit=limit, rows=sum(count for _, count in longer), lost=lost)
        if not longer and limit >= max_length:
            return


def _quantile(ordered: list[tuple[int, int]], due: float) -> int:
    below = 0
    for length, count in ordered:
        below += count
        if below >= due:
            return length
    return ordered[-1][0]


def _bins(ordered: list[tuple[int, int]]) -> Iterator[Bin]:
    """Of equal ratio, so that short and long rows both are told apart."""
    by_bin: Counter[int] = Counter()
    for length, count in ordered:
        by_bin[_bin(length)] += count
    for number in range(min(by_bin), max(by_bin) + 1):
        low, high = _low(number), _low(number + 1) - 1
        if low <= high:
            yield Bin(low=low, high=high, rows=by_bin[number])


def _bin(length: int) -> int:
    """0 for a length of 0, then two bins for each doubling: their borders are powers of the square root of 2."""
    if not length:
        return 0
    doublings = length.bit_length() - 1
    return 1 + 2 * doublings + (length * length >> (2 * doublings + 1) > 0)


def _low(number: int) -> int:
    """The least length of a bin."""
    if not number:
        return 0
    doublings, half = divmod(number - 1, 2)
    return isqrt((1 << 2 * doublings + 1) - 1) + 1 if half else 1 << doublings
