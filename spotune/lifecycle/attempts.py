"""How the next attempt is made: which rung, how long it may run, and the money set aside for it."""

from __future__ import annotations

from spotune.contracts.base import MicroUSD, Seconds, dollars
from spotune.contracts.commands import StartAttempt, StopAttempt
from spotune.contracts.job import NEVER, Attempt, JobError, JobRecord
from spotune.contracts.lines import is_quota_line, waiting_words
from spotune.contracts.money import longest_runtime, worst_case
from spotune.contracts.plan import Rung
from spotune.lifecycle.draft import Draft
from spotune.lifecycle.lines import places
from spotune.lifecycle.rungs import next_rung, plan_of, spot_time_left

SHORTEST_RUN: Seconds = 300
"""Below this an attempt pays for its start-up and learns nothing."""


def begin_attempt(draft: Draft, rung: int) -> None:
    """Reserve money and order the next attempt on this rung; fail the job where time or money do not reach.

    It waits while a training job that was given up has not ended: never two of one job. It stands in line where the
    store found one full.
    """
    job, chosen = draft.job, plan_of(draft.job).rungs[rung]
    if (left_over := next((one for one in job.attempts if one.live), None)) is not None:
        draft.set(state="queued", line="", waiting_for=f"training job {left_over.name} to end")
        return
    runtime, what_ran_out = affordable_runtime(job, chosen, draft.now)
    if draft.no_funds:
        _fail(draft, _limit_reached(draft.no_funds))
    elif runtime < SHORTEST_RUN:
        _fail(draft, _too_little(job, what_ran_out, runtime))
    elif draft.full_line:
        stand_in_line(draft, rung, draft.full_line)
    else:
        _order(draft, rung, runtime)


def _order(draft: Draft, rung: int, runtime: Seconds) -> None:
    kept = _used(draft.job.attempts)
    attempt = _new_attempt(draft, rung, len(kept) + 1, runtime)
    again = len(kept) < len(draft.job.attempts) and _is_same_wait(draft.job.attempts[-1], rung)
    draft.set(state="queued", rung=rung, line="", attempts=(*kept, attempt))
    draft.reserve(attempt)
    draft.command(StartAttempt(number=attempt.number))
    if again:
        return
    types = " or ".join(plan_of(draft.job).rungs[rung].instance_types)
    draft.set(waiting_for="")
    draft.say(
        f"Attempt {attempt.number} ordered: {attempt.instance_count} x {types}, "
        f"{attempt.market.replace('_', '-')}, at most {runtime} s; {dollars(attempt.reserved)} reserved.",
        attempt=attempt.number,
        market=attempt.market,
    )


def _used(attempts: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    """Without a last one that SageMaker never took: the next attempt has its name again.

    So a request of that one's that comes through late is adopted, or refused for its name, and never runs beside.
    """
    never_taken = bool(attempts) and not attempts[-1].accepted and attempts[-1].outcome is not None
    return attempts[:-1] if never_taken else attempts


def _is_same_wait(attempt: Attempt, rung: int) -> bool:
    """True where the order is the next try of one that was said already."""
    return attempt.rung == rung and attempt.outcome in ("quota", "capacity")


def _new_attempt(draft: Draft, rung: int, number: int, runtime: Seconds) -> Attempt:
    chosen = plan_of(draft.job).rungs[rung]
    return Attempt(
        number=number,
        name=f"{draft.job.id}-{number}",
        rung=rung,
        market=chosen.market,
        instance_type=chosen.instance_types[0],
        instance_count=chosen.instance_count,
        price=chosen.price,
        on_demand_price=chosen.ceiling_price,
        max_runtime=runtime,
        max_wait=runtime + chosen.patience,
        reserved=worst_case(chosen.ceiling_price, chosen.instance_count, runtime) + transfer_due(draft.job),
        held=places(draft.job, rung),
        requested_at=draft.now,
    )


def stand_in_line(draft: Draft, rung: int, line: str, *, why: str = "") -> None:
    """Let the job wait in this line; one that stood in another keeps the time since when it waits."""
    job = draft.job
    waiting_for = waiting_words(line)
    if waiting_for != job.waiting_for:
        draft.say(f"Waiting for {waiting_for}." if not why else f"Waiting for {waiting_for}: {why}", level="warn")
    since = draft.now if job.in_line_since is None else job.in_line_since
    draft.set(state="queued", rung=rung, line=line, in_line_since=since, waiting_for=waiting_for)
    draft.set(idle_until=_next_look(draft))


def _next_look(draft: Draft) -> float:
    """When the next rung is due: the rung's patience, or spot's time, is over. Other lines are as long on any rung."""
    job, now = draft.job, draft.now
    if not is_quota_line(job.line) or next_rung(job, now) is None:
        return NEVER
    return now + min(plan_of(job).rungs[job.rung].patience, spot_time_left(job, now))


def take_back(draft: Draft, attempt: Attempt) -> None:
    """A training job that we had given up was created after all: stop it; its money is set aside until it has ended."""
    worst = worst_case(attempt.on_demand_price, attempt.instance_count, attempt.max_runtime)
    room = max(0, draft.job.cap - draft.job.billed - draft.job.reserved)
    amount = 0 if draft.no_funds else min(worst, room)
    taken = attempt.with_(accepted=True, stop_asked="cancel", reserved=amount)
    draft.replace_attempt(taken)
    if amount:
        draft.reserve(taken)
    draft.command(StopAttempt(name=attempt.name))
    draft.say(f"Training job {attempt.name} was created after all; it is being stopped.", level="warn")


def affordable_runtime(job: JobRecord, rung: Rung, now: float) -> tuple[Seconds, str]:
    """Seconds that money, deadline and installation allow on this rung, and whether `money` or `time` is less."""
    left = job.cap - job.billed - job.reserved - transfer_due(job)
    by_money = longest_runtime(rung.ceiling_price, rung.instance_count, left)
    longest = plan_of(job).longest
    by_time = longest if job.deadline is None else min(longest, int(job.deadline - now))
    return max(0, min(by_money, by_time)), "money" if by_money <= by_time else "time"


def transfer_due(job: JobRecord) -> MicroUSD:
    """What is still to be booked for carrying model and data to the job's region."""
    return plan_of(job).chosen.transfer if job.transfer is None else 0


def billed_cost(attempt: Attempt, billable_seconds: Seconds) -> MicroUSD:
    """What SageMaker's billable seconds of an attempt cost, rounded up.

    On spot they are fewer than the seconds that passed: SageMaker gives the saving as 1 - billable / training
    (DescribeTrainingJob, BillableTimeInSeconds), so they are paid at the on-demand price.
    """
    return -(-attempt.on_demand_price * attempt.instance_count * billable_seconds // 3600)


def _fail(draft: Draft, error: JobError) -> None:
    draft.say(error.message, level="error")
    draft.finish("failed", error)


def _limit_reached(message: str) -> JobError:
    return JobError(
        code="monthly_limit_reached",
        message=message,
        remedy="Raise the monthly limit, or retry the job next month.",
    )


def _too_little(job: JobRecord, what_ran_out: str, seconds: Seconds) -> JobError:
    if what_ran_out == "money":
        return JobError(
            code="budget_exhausted",
            message=f"{dollars(job.cap - job.billed)} of the {dollars(job.cap)} cap are left, "
            f"which buys {seconds} s: too little for another attempt.",
            param="constraints.budget_usd",
            remedy="Retry it with a higher constraints.budget_usd: it goes on from its checkpoint.",
        )
    return JobError(
        code="deadline_missed",
        message=f"{seconds} s are left before the deadline: too little for another attempt.",
        param="constraints.finish_within_hours",
        remedy="Retry it with a later constraints.finish_within_hours: it goes on from its checkpoint.",
    )
