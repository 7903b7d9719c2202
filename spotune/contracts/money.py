"""What a training job can cost at most: the one formula that planning, reserving and MaxRuntime share.

The price is the on-demand one, on spot too: SageMaker bills BillableTimeInSeconds at it, and how far the discount
shortens those seconds is known at the end only. A cap that holds without any discount holds whatever the market does.
"""

from __future__ import annotations

import time
from typing import Literal

from spotune.contracts.base import MicroUSD, Seconds, Timestamp

STOP_LATENCY: Seconds = 180
"""What may be billed beyond the time limit: 120 s of grace between SIGTERM and SIGKILL (SageMaker developer guide,
StopTrainingJob), and a minute for the upload of what lies in the output folders, which TrainingEndTime comes after."""

LONGEST_RUNTIME: Seconds = 28 * 24 * 3600
"""SageMaker's limit on MaxRuntimeInSeconds."""


def month_of(at: Timestamp) -> str:
    """The ledger's month (`YYYY-MM`, UTC) of a moment. An attempt's money counts in the month of its order."""
    return time.strftime("%Y-%m", time.gmtime(at))


def worst_case(on_demand_price: MicroUSD, count: int, max_runtime: Seconds) -> MicroUSD:
    """What a training job of this time limit can cost at most, rounded up.

    Args:
        on_demand_price: micro-dollars an instance-hour.
        count: instances.
        max_runtime: seconds.
    """
    return -(-on_demand_price * count * (max_runtime + STOP_LATENCY) // 3600)


def longest_runtime(on_demand_price: MicroUSD, count: int, money: MicroUSD) -> int:
    """The longest time limit, in seconds, whose worst case this money covers; below zero where it covers none."""
    return min(money * 3600 // (on_demand_price * count) - STOP_LATENCY, LONGEST_RUNTIME)


def warning_level(billed: MicroUSD, limit: MicroUSD) -> Literal[0, 50, 80, 100]:
    """The highest share of a cap or a limit, in per cent, that is warned of and that billed money has reached."""
    if billed * 100 >= limit * 100:
        return 100
    if billed * 100 >= limit * 80:
        return 80
    return 50 if billed * 100 >= limit * 50 else 0
