"""What a job cost, and what it got for it."""

from __future__ import annotations

from spotune.contracts.base import Contract, Interval, MicroUSD, Seconds
from spotune.contracts.verdict import GateDecision


class Receipt(Contract):
    """Of a job that has ended. Seconds and dollars are over all attempts and instances."""

    attempts: int
    interruptions: int
    training_seconds: Seconds
    """Seconds that passed on instances."""
    billable_seconds: Seconds
    """Those that are billed at the on-demand price: on spot fewer, by its discount."""
    work_lost_seconds: float | None
    """Training that was done again after interruptions; None where the container left no report."""
    steps_lost: int | None
    billed: MicroUSD
    on_demand: MicroUSD
    """What the same seconds cost on demand."""
    saved: MicroUSD
    """Against that."""
    decision: GateDecision | None
    """The gate's on what it bought; None where nothing was published."""
    forecast: Interval | None
    """What the plan expected it to cost, micro-dollars; None where there was no plan."""
