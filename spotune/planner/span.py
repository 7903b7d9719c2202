"""An interval as the search computes with it."""

from __future__ import annotations

from typing import NamedTuple

from spotune.contracts.base import Interval


class Span(NamedTuple):
    """An estimate with its 5 % and 95 % quantiles: plain floats, since thousands are made for one plan."""

    low: float
    mid: float
    high: float

    def times(self, factor: float) -> Span:
        """All three scaled, by a factor of zero or more."""
        return Span(self.low * factor, self.mid * factor, self.high * factor)

    def plus(self, amount: float) -> Span:
        """All three moved."""
        return Span(self.low + amount, self.mid + amount, self.high + amount)

    def interval(self) -> Interval:
        """As it is said in a plan."""
        return Interval(low=self.low, mid=self.mid, high=self.high)
