"""The life of a job: `decide(job, event, now) -> Decision`, pure and total.

    validating -> queued -> starting -> running <-> interrupted -> evaluating -> succeeded | failed | cancelled
                    ^ \\________ next rung, next attempt ________/      \\-> paused -> queued

Every event is answered in every state. What comes twice, late or out of order changes nothing: the answer is then None.
Money is reserved when an attempt is ordered and settled when its final description is read, in the decision itself,
so that the store writes both in one transaction.
"""

from __future__ import annotations

from spotune.contracts.base import Timestamp, dollars
from spotune.contracts.events import (
    AttemptAccepted,
    AttemptRefused,
    CancelRequested,
    Event,
    PauseRequested,
    Prepared,
    Refused,
    ResumeRequested,
    RungDue,
    TrainingObserved,
)
from spotune.contracts.job import Attempt, CheckDataset, Decision, JobError, JobRecord, StopAttempt
from spotune.lifecycle.attempts import begin_attempt, next_rung, plan_of, spot_time_left, take_back
from spotune.lifecycle.draft import Draft
from spotune.lifecycle.observed import observe

NO_INSTANCE = frozenset({"", "Starting", "Pending", "Interrupted", "LaunchingMLInstances", "PreparingTrainingStack"})
"""SageMaker's secondary statuses before an instance works for the job."""


def open_job(job: JobRecord, now: Timestamp) -> Decision:
    """The first decision of a job whose dataset is still to be read."""
    draft = Draft(job, now)
    draft.say("Job created; its files are being checked.")
    draft.command(CheckDataset())
    return draft.decision()


def open_prepared(job: JobRecord, prepared: Prepared, now: Timestamp) -> Decision:
    """The first decision of a job whose dataset was read within the request."""
    draft = Draft(job, now)
    draft.say("Job created.")
    _prepared(draft, prepared)
    return draft.decision()


def decide(job: JobRecord, event: Event, now: Timestamp, *, no_funds: str = "") -> Decision | None:
    """What an event makes of a job; None where it changes nothing.

    Args:
        job: the record as it was read.
        event: what happened.
        now: seconds since the epoch.
        no_funds: the tenant's limit refused the reservation of the decision made without this, and said so.
    """
    draft = Draft(job, now, no_funds)
    match event:
        case Prepared():
            changed = job.state == "validating" and _prepared(draft, event)
        case Refused():
            changed = job.state == "validating" and _refused(draft, event)
        case AttemptAccepted():
            changed = _accepted(draft, event)
        case AttemptRefused():
            changed = _attempt_refused(draft, event)
        case TrainingObserved():
            changed = observe(draft, event)
        case CancelRequested():
            changed = not job.terminal and not job.cancel_requested and _cancel(draft)
        case PauseRequested():
            changed = _pause(draft)
        case ResumeRequested():
            changed = job.state == "paused" and not no_funds and _resume(draft)
        case RungDue():
            changed = _rung_due(draft)
    return draft.decision() if changed else None


def _prepared(draft: Draft, event: Prepared) -> bool:
    draft.set(
        training=event.training,
        validation=event.validation,
        settings=event.settings,
        config=event.config,
        plan=event.plan,
    )
    draft.say(
        f"Files checked: {event.training.rows} training rows"
        + (f", {event.validation.rows} validation rows." if event.validation else ".")
    )
    chosen = event.plan.chosen
    draft.say(
        f"Planned: {chosen.instance_count} x {chosen.instance_type} ({chosen.gpu}), {chosen.market.replace('_', '-')}, "
        f"{chosen.billed_hours.mid:.2f} h, {dollars(round(chosen.cost.mid))} "
        f"({dollars(round(chosen.cost.low))} to {dollars(round(chosen.cost.high))}).",
    )
    begin_attempt(draft, rung=0)
    return True


def _refused(draft: Draft, event: Refused) -> bool:
    draft.set(training=event.training, validation=event.validation)
    draft.say(event.error.message, level="error", code=event.error.code)
    draft.finish("failed", event.error)
    return True


def _accepted(draft: Draft, event: AttemptAccepted) -> bool:
    attempt = _find(draft.job, event.name)
    if attempt is None or attempt.accepted:
        return False
    if draft.job.terminal or attempt.outcome is not None:
        take_back(draft, attempt)
        return True
    draft.replace_attempt(attempt.with_(accepted=True))
    draft.set(state="starting", waiting_for="")
    draft.say(f"Training job {event.name} accepted.", attempt=attempt.number)
    if attempt.stop_asked:
        draft.command(StopAttempt(name=event.name))
    return True


def _attempt_refused(draft: Draft, event: AttemptRefused) -> bool:
    attempt = _find(draft.job, event.name)
    if attempt is None or attempt.accepted or attempt.outcome is not None or draft.job.terminal:
        return False
    if event.reason == "cancelled" or attempt.stop_asked:
        _close(draft, attempt.with_(outcome="stopped_by_user"))
        _end_unlaunched(draft, attempt)
    elif event.reason in ("quota", "capacity"):
        _close(draft, attempt.with_(outcome=event.reason))
        _wait_or_climb(draft, attempt, event)
    else:
        _close(draft, attempt.with_(outcome="internal"))
        error = JobError(
            code="permission_missing" if event.reason == "not_permitted" else "training_job_invalid",
            message="SageMaker refused the training job.",
            evidence=event.message,
            remedy="Grant the named action to the launch function's role."
            if event.reason == "not_permitted"
            else "This is a fault of Spotune's or of the installation's settings; report it with the evidence.",
        )
        draft.say(f"{error.message} {event.message}", level="error")
        draft.finish("failed", error)
    return True


def _close(draft: Draft, attempt: Attempt) -> None:
    """Record the end of an attempt that never ran."""
    draft.replace_attempt(draft.settle(attempt, billed=0))


def _end_unlaunched(draft: Draft, attempt: Attempt) -> None:
    if draft.job.cancel_requested or attempt.stop_asked != "pause":
        draft.say("Cancelled before it was launched; nothing was billed.")
        draft.finish("cancelled")
    else:
        draft.set(state="paused", waiting_for="resume")
        draft.say("Paused before it was launched.")


def _wait_or_climb(draft: Draft, attempt: Attempt, event: AttemptRefused) -> None:
    following = next_rung(draft.job, draft.now)
    if following is not None and event.reason == "capacity":
        draft.say(f"No capacity for {attempt.instance_type} ({attempt.market}); trying the next rung.", level="warn")
        begin_attempt(draft, following)
        return
    waiting_for = f"{event.reason} of {attempt.instance_type} ({attempt.market})"
    if waiting_for != draft.job.waiting_for:
        draft.say(f"Waiting for {waiting_for}: {event.message}", level="warn")
    draft.set(state="queued", waiting_for=waiting_for)


def _cancel(draft: Draft) -> bool:
    draft.set(cancel_requested=True)
    attempt = draft.job.attempt
    if attempt is None or attempt.outcome is not None:
        draft.say("Cancelled; nothing was running.")
        draft.finish("cancelled")
        return True
    draft.say("Cancel requested.")
    stop(draft, "cancel")
    return True


def _pause(draft: Draft) -> bool:
    attempt = draft.job.attempt
    if draft.job.terminal or draft.job.cancel_requested or draft.job.state in ("paused", "validating"):
        return False
    if attempt is None or attempt.outcome is not None:
        draft.set(state="paused", waiting_for="resume")
        draft.say("Paused; nothing was running.")
        return True
    if attempt.stop_asked == "pause":
        return False
    draft.say("Pause requested.")
    stop(draft, "pause")
    return True


def _resume(draft: Draft) -> bool:
    draft.say("Resumed; it goes on from its newest checkpoint.")
    begin_attempt(draft, draft.job.rung)
    return True


def _rung_due(draft: Draft) -> bool:
    job, attempt = draft.job, draft.job.attempt
    if job.terminal or job.cancel_requested or attempt is None or job.state == "paused":
        return False
    if job.state == "queued" and attempt.outcome is not None:
        return _order_again(draft)
    if attempt.stop_asked or attempt.secondary_status not in NO_INSTANCE or next_rung(job, draft.now) is None:
        return False
    waited, patience = draft.now - attempt.requested_at, plan_of(job).rungs[attempt.rung].patience
    if job.state == "starting" and waited > patience:
        draft.say(f"No capacity for {attempt.instance_type} within {patience} s; trying the next rung.", level="warn")
    elif job.state in ("starting", "interrupted") and spot_time_left(job, draft.now) == 0:
        draft.say("Spot's time is over: on-demand now, so that the deadline holds.", level="warn")
    else:
        return False
    stop(draft, "patience")
    return True


def _order_again(draft: Draft) -> bool:
    """A wait is over. Without funds it goes on, for these."""
    if not draft.no_funds:
        begin_attempt(draft, _rung_after_wait(draft))
        return True
    if draft.job.waiting_for == draft.no_funds:
        return False
    draft.set(waiting_for=draft.no_funds)
    draft.say(draft.no_funds, level="warn")
    return True


def _rung_after_wait(draft: Draft) -> int:
    """The same one where quota was missing; the first one again where no rung had capacity and there is time."""
    job = draft.job
    waited_for = job.attempt.outcome if job.attempt is not None else None
    if waited_for == "quota" or next_rung(job, draft.now) is not None or spot_time_left(job, draft.now) == 0:
        return job.rung
    return 0


def stop(draft: Draft, why: str) -> None:
    """Ask SageMaker to stop the running attempt; an attempt that was not yet accepted is stopped by its launch."""
    attempt = draft.job.attempt
    if attempt is None:
        return
    draft.replace_attempt(attempt.with_(stop_asked=why))
    if attempt.accepted:
        draft.command(StopAttempt(name=attempt.name))


def _find(job: JobRecord, name: str) -> Attempt | None:
    return next((attempt for attempt in job.attempts if attempt.name == name), None)
