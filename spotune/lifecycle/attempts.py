"""How the next attempt is made: which rung, how long it may run, and the money set aside for it."""

from __future__ import annotations

from spotune.contracts.base import MicroUSD, Seconds, dollars
from spotune.contracts.job import Attempt, JobError, JobRecord, StartAttempt
from spotune.contracts.plan import Plan, Rung
from spotune.lifecycle.draft import Draft

STOP_LATENCY: Seconds = 120
"""SageMaker's grace between SIGTERM and SIGKILL, billed (SageMaker developer guide, StopTrainingJob)."""
SHORTEST_RUN: Seconds = 300
"""Below this an attempt pays for its start-up and learns nothing."""
LONGEST_RUN: Seconds = 28 * 24 * 3600
"""SageMaker's limit on MaxRuntimeInSeconds."""


def begin_attempt(draft: Draft, rung: int) -> None:
    """Reserve money and order the next attempt on this rung; fail the job where time or money do not reach."""
    job = draft.job
    chosen = plan_of(job).rungs[rung]
    runtime, what_ran_out = affordable_runtime(job, chosen, draft.now)
    if runtime < SHORTEST_RUN:
        _give_up(draft, what_ran_out, runtime)
        return
    number = len(job.attempts) + 1
    attempt = Attempt(
        number=number,
        name=f"{job.id}-{number}",
        rung=rung,
        market=chosen.market,
        instance_type=chosen.instance_types[0],
        instance_count=chosen.instance_count,
        price=chosen.price,
        on_demand_price=max(chosen.on_demand_prices),
        max_runtime=runtime,
        max_wait=runtime + chosen.patience,
        reserved=cost_of(chosen, runtime + STOP_LATENCY),
        requested_at=draft.now,
    )
    draft.set(state="queued", rung=rung, attempts=(*job.attempts, attempt), waiting_for="")
    draft.reserve(attempt.reserved)
    draft.command(StartAttempt(number=number))
    draft.say(
        f"Attempt {number} ordered: {chosen.instance_count} x {' or '.join(chosen.instance_types)}, "
        f"{chosen.market.replace('_', '-')}, at most {runtime} s; {dollars(attempt.reserved)} reserved.",
        attempt=number,
        market=chosen.market,
    )


def next_rung(job: JobRecord) -> int | None:
    """The rung after the present one, None on the last."""
    following = job.rung + 1
    return following if following < len(plan_of(job).rungs) else None


def affordable_runtime(job: JobRecord, rung: Rung, now: float) -> tuple[Seconds, str]:
    """Seconds that money, deadline and SageMaker allow on this rung, and whether `money` or `time` is the shorter."""
    left = job.cap - job.billed - job.reserved
    by_money = left * 3600 // (rung.price * rung.instance_count) - STOP_LATENCY
    by_time = LONGEST_RUN if job.deadline is None else int(job.deadline - now)
    seconds = max(0, min(by_money, by_time, LONGEST_RUN))
    return seconds, "money" if by_money <= by_time else "time"


def cost_of(rung: Rung, seconds: Seconds) -> MicroUSD:
    """What so many seconds on all instances of a rung cost, rounded up."""
    return -(-rung.price * rung.instance_count * seconds // 3600)


def billed_cost(attempt: Attempt, billable_seconds: Seconds) -> MicroUSD:
    """What SageMaker's billable seconds of an attempt cost, rounded up.

    On spot they are fewer than the seconds that passed: SageMaker gives the saving as 1 - billable / training
    (DescribeTrainingJob, BillableTimeInSeconds), so they are paid at the on-demand price.
    """
    return -(-attempt.on_demand_price * attempt.instance_count * billable_seconds // 3600)


def plan_of(job: JobRecord) -> Plan:
    """The plan of a prepared job.

    Raises:
        ValueError: the job was never prepared; a fault of ours.
    """
    if job.plan is None:
        raise ValueError(f"job {job.id} has no plan in state {job.state}")
    return job.plan


def _give_up(draft: Draft, what_ran_out: str, seconds: Seconds) -> None:
    job = draft.job
    if what_ran_out == "money":
        error = JobError(
            code="budget_exhausted",
            message=f"{dollars(job.cap - job.billed)} of the {dollars(job.cap)} cap are left, "
            f"which buys {seconds} s: too little for another attempt.",
            param="constraints.budget_usd",
            remedy="Submit the job again with a higher constraints.budget_usd.",
        )
    else:
        error = JobError(
            code="deadline_missed",
            message=f"{seconds} s are left before the deadline: too little for another attempt.",
            param="constraints.finish_within_hours",
            remedy="Submit the job again with a later constraints.finish_within_hours.",
        )
    draft.say(error.message, level="error")
    draft.finish("failed", error)
