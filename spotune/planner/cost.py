"""Money in whole micro-dollars. What must be reserved is rounded up, what a cap allows is rounded down."""

from __future__ import annotations

from spotune.contracts.base import Interval, MicroUSD

STOP_LATENCY_SECONDS = 120
"""From the time limit to the end of billing: SageMaker's grace before it kills."""

LONGEST_RUNTIME_SECONDS = 28 * 24 * 3600
"""SageMaker's own limit for a training job."""


def cost_interval(price: MicroUSD, count: int, billed_hours: Interval) -> Interval:
    """Micro-dollars of `count` instances at `price` an hour."""
    rate = price * count
    return Interval(low=rate * billed_hours.low, mid=rate * billed_hours.mid, high=rate * billed_hours.high)


def worst_case(price: MicroUSD, count: int, max_runtime: int) -> MicroUSD:
    """What a training job of this time limit can cost at most, in micro-dollars."""
    return -(-price * count * (max_runtime + STOP_LATENCY_SECONDS) // 3600)


def longest_runtime(price: MicroUSD, count: int, cap: MicroUSD) -> int:
    """The longest time limit, in seconds, whose worst case the cap covers; zero or below where it covers none."""
    return min(cap * 3600 // (price * count) - STOP_LATENCY_SECONDS, LONGEST_RUNTIME_SECONDS)
