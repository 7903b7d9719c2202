"""What a decision or a pass of the reconciler is worth measuring. Pure: who sends it does so after the commit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import get_args

from spotune.contracts.base import MICRO, Timestamp
from spotune.contracts.history import FinishedRun
from spotune.contracts.job import TERMINAL, ActiveJob, Attempt, Decision, JobRecord, State
from spotune.contracts.measures import Measurement
from spotune.contracts.money import warning_level
from spotune.lifecycle.diagnosis import diagnose

OPEN_STATES: tuple[State, ...] = tuple(state for state in get_args(State) if state not in TERMINAL)


def measure_decision(before: JobRecord | None, decision: Decision) -> tuple[Measurement, ...]:
    """What changed from a job's record to the decision's; `before` is None for a job's first decision."""
    return tuple(_of_decision(before, decision))


def waits_since(job: JobRecord) -> Timestamp:
    """The end of a job's last time on an instance, or its creation."""
    worked = (attempt.ended_at for attempt in job.attempts if attempt.training_seconds and attempt.ended_at)
    return max([job.created_at, *worked])


def measure_pass(
    active: Iterable[ActiveJob], waits: Mapping[str, Timestamp], oldest_command: Timestamp | None, now: Timestamp
) -> tuple[Measurement, ...]:
    """The gauges of one pass over the jobs that are not finished. A state without jobs is sent as nought.

    Args:
        waits: since when jobs wait, by id, as far as they were looked at; for others their place in line says it.
        oldest_command: when the oldest command that was due was made; None where there is none.
    """
    return tuple(_of_pass(tuple(active), waits, oldest_command, now))


def _of_decision(before: JobRecord | None, decision: Decision) -> Iterator[Measurement]:
    job = decision.job
    if before is None:
        yield Measurement("JobsSubmitted", 1)
    if _was_accepted(job) and not (before is not None and _was_accepted(before)):
        yield Measurement("QueueSeconds", max(0.0, job.updated_at - job.created_at))
    known = {attempt.name: attempt for attempt in before.attempts} if before is not None else {}
    for attempt in job.attempts:
        yield from _of_attempt(known.get(attempt.name), attempt)
    if warning_level(job.billed, job.cap) > warning_level(before.billed if before is not None else 0, job.cap):
        yield Measurement("CapWarnings", 1)
    if job.terminal and not (before is not None and before.terminal):
        yield from _of_end(job)
    if decision.run is not None:
        yield from _of_run(decision.run)


def _was_accepted(job: JobRecord) -> bool:
    return any(attempt.accepted for attempt in job.attempts)


def _of_attempt(before: Attempt | None, after: Attempt) -> Iterator[Measurement]:
    """An attempt that was refused and is ordered again has the same name and begins anew."""
    if before is not None and before.requested_at != after.requested_at:
        before = None
    if after.started_at is not None and (before is None or before.started_at is None):
        yield Measurement("TimeToStart", max(0.0, after.started_at - after.requested_at), after.market)
    interruptions = after.interruptions - (before.interruptions if before is not None else 0)
    if interruptions > 0:
        yield Measurement("Interruptions", interruptions)
    billed = after.billed - (before.billed if before is not None else 0)
    if billed > 0:
        yield Measurement("Spend", billed / MICRO, after.market)
    if after.outcome is not None and (before is None or before.outcome is None):
        yield Measurement("AttemptsEnded", 1, after.outcome)


def _of_end(job: JobRecord) -> Iterator[Measurement]:
    yield Measurement("JobsEnded", 1, job.state)
    if job.state == "failed":
        yield Measurement("JobsFailed", 1, diagnose(job, None, job.updated_at).cause)


def _of_run(run: FinishedRun) -> Iterator[Measurement]:
    """Of a completed job on the planned card alone: what was cut short, or ran elsewhere, says nothing of forecasts."""
    if not run.completed or run.elsewhere:
        return
    if run.forecast.cost.mid > 0:
        yield Measurement("ForecastCostRatio", run.actual.cost / run.forecast.cost.mid)
    if run.forecast.billed_hours.mid > 0:
        yield Measurement("ForecastHoursRatio", run.actual.billed_hours / run.forecast.billed_hours.mid)


def _of_pass(
    active: tuple[ActiveJob, ...], waits: Mapping[str, Timestamp], oldest_command: Timestamp | None, now: Timestamp
) -> Iterator[Measurement]:
    count = Counter(job.state for job in active)
    for state in OPEN_STATES:
        yield Measurement("Jobs", count[state], state)
    since = [
        waits.get(job.id, job.in_line_since or job.created_at)
        for job in active
        if job.state in ("validating", "queued")
    ]
    yield Measurement("OldestQueuedSeconds", max([0.0, *(now - moment for moment in since)]))
    yield Measurement("OldestCommandSeconds", 0.0 if oldest_command is None else max(0.0, now - oldest_command))
