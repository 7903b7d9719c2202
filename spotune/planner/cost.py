"""What billed hours cost."""

from __future__ import annotations

from spotune.contracts.base import Interval, MicroUSD


def cost_interval(price: MicroUSD, count: int, billed_hours: Interval) -> Interval:
    """Micro-dollars of `count` instances at `price` an hour."""
    rate = price * count
    return Interval(low=rate * billed_hours.low, mid=rate * billed_hours.mid, high=rate * billed_hours.high)
