"""The ladder of a job's plan as time goes by: which rung comes next, and how long spot may still be waited for."""

from __future__ import annotations

import math

from spotune.contracts.base import Timestamp
from spotune.contracts.deadlines import patience
from spotune.contracts.job import JobRecord
from spotune.contracts.plan import Plan


def plan_of(job: JobRecord) -> Plan:
    """The plan of a prepared job.

    Raises:
        ValueError: the job was never prepared; a fault of ours.
    """
    if job.plan is None:
        raise ValueError(f"job {job.id} has no plan in state {job.state}")
    return job.plan


def next_rung(job: JobRecord, now: Timestamp) -> int | None:
    """The rung after the present one, the on-demand one once spot's time is over; None on the last."""
    last = len(plan_of(job).rungs) - 1
    if job.rung == last:
        return None
    return last if spot_time_left(job, now) == 0 else job.rung + 1


def rung_after_the_last(job: JobRecord, now: Timestamp) -> int:
    """Where a job goes on that no rung could serve: the first one again, while there is time for spot."""
    return job.rung if next_rung(job, now) is not None or spot_time_left(job, now) == 0 else 0


def spot_time_left(job: JobRecord, now: Timestamp) -> float:
    """Seconds for which a job without an instance may still wait for spot, so that on-demand meets the deadline.

    By what is left to do, counted low: every start and whatever an interruption may have taken back is left out.
    Infinite without a deadline, or without an on-demand rung to fall back on.
    """
    fallback = plan_of(job).fallback
    if fallback is None or job.deadline is None:
        return math.inf
    chosen, interruptions = plan_of(job).chosen, sum(one.interruptions for one in job.attempts)
    trained = sum(attempt.training_seconds for attempt in job.attempts)
    starts = sum(1 + attempt.interruptions for attempt in job.attempts if attempt.training_seconds)
    kept = max(trained - starts * chosen.start_seconds - interruptions * chosen.save_interval, 0.0)
    left = max(fallback.work - kept, chosen.start_seconds)
    return patience(left, job.deadline - now, fallback.beyond)
