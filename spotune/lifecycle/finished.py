"""A job that has ended, as the record that later plans learn from."""

from __future__ import annotations

from spotune.contracts.history import Actual, FinishedRun, Stay
from spotune.contracts.job import JobRecord
from spotune.contracts.training import TrainingReport


def finished_run(job: JobRecord) -> FinishedRun | None:
    """Forecast and outcome of a job to which nothing can happen any more; None where it never had an instance."""
    stays = tuple(
        Stay(
            instance_type=attempt.instance_type,
            instance_count=attempt.instance_count,
            market=attempt.market,
            training_seconds=attempt.training_seconds,
            billable_seconds=attempt.billable_seconds,
            on_demand_price=attempt.on_demand_price,
            interruptions=attempt.interruptions,
        )
        for attempt in job.attempts
        if attempt.training_seconds > 0
    )
    if job.open or job.finished_at is None or job.plan is None or not stays:
        return None
    return FinishedRun(
        id=job.id,
        tenant=job.tenant,
        created_at=job.created_at,
        finished_at=job.finished_at,
        model=job.model.name,
        completed=job.state == "succeeded",
        forecast=job.plan.chosen,
        actual=_actual(job, stays),
        stays=stays,
    )


def _actual(job: JobRecord, stays: tuple[Stay, ...]) -> Actual:
    paused = any(attempt.stop_asked == "pause" for attempt in job.attempts)
    report, finished = job.report, job.finished_at or job.created_at
    # The report of a retry counts the earlier job's steps too, perhaps of another machine: they say nothing of its own.
    own = None if job.goes_on else report
    return Actual(
        cost=job.billed,
        billed_hours=sum(stay.training_seconds for stay in stays) / 3600,
        wall_hours=None if paused else (finished - job.created_at) / 3600,
        interruptions=sum(stay.interruptions for stay in stays),
        work_lost_hours=own and own.lost_seconds / 3600,
        tokens_per_second=own.tokens_seen / own.train_seconds if own and own.train_seconds else None,
        peak_memory_bytes=own and own.peak_memory_bytes,
        start_seconds=report and _start_seconds(report, stays[-1]),
        device=report.device if report else "",
    )


def _start_seconds(report: TrainingReport, last: Stay) -> float | None:
    """Time on the instance that no process of the container saw, an instance's share of it, and one loading."""
    if not report.elapsed_seconds:
        return None
    unseen = max(last.training_seconds - report.elapsed_seconds, 0.0)
    return unseen / (1 + last.interruptions) + report.loading_seconds
