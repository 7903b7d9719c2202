"""The receipt of a job that has ended, from its record alone."""

from __future__ import annotations

from spotune.contracts.job import JobRecord
from spotune.contracts.receipt import Receipt


def receipt(job: JobRecord) -> Receipt | None:
    """None as long as anything can still be billed."""
    if job.open:
        return None
    report = job.report
    on_demand = on_demand_cost(job)
    return Receipt(
        attempts=len(job.attempts),
        interruptions=sum(attempt.interruptions for attempt in job.attempts),
        training_seconds=sum(attempt.training_seconds * attempt.instance_count for attempt in job.attempts),
        billable_seconds=sum(attempt.billable_seconds * attempt.instance_count for attempt in job.attempts),
        work_lost_seconds=report and report.lost_seconds,
        steps_lost=report and report.lost_steps,
        billed=job.billed,
        on_demand=on_demand,
        saved=max(on_demand - job.billed, 0),
        decision=job.verdict and job.verdict.decision,
        forecast=job.plan and job.plan.chosen.cost,
    )


def on_demand_cost(job: JobRecord) -> int:
    """What the seconds that passed would have cost on demand, micro-dollars, each attempt rounded up."""
    return sum(
        -(-attempt.on_demand_price * attempt.instance_count * attempt.training_seconds // 3600)
        for attempt in job.attempts
    )
