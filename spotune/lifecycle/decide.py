"""The life of a job: `decide(job, event, now) -> Decision`, pure and total.

    validating -> queued -> starting -> running <-> interrupted -> evaluating -> succeeded | failed | cancelled
                    ^ \\________ next rung, next attempt ________/      \\-> paused -> queued

Every event is answered in every state. What comes twice, late or out of order changes nothing: the answer is then None.
Money is reserved when an attempt is ordered and settled when its final description is read, in the decision itself,
so that the store writes both in one transaction.
"""

from __future__ import annotations

from spotune.contracts.base import Timestamp, dollars
from spotune.contracts.commands import StopAttempt
from spotune.contracts.events import (
    AttemptAccepted,
    AttemptRefused,
    CancelRequested,
    CheckBegun,
    CopyStarted,
    Event,
    PauseRequested,
    Prepared,
    Refused,
    ResumeRequested,
    RungDue,
    TrainingObserved,
    TurnCame,
)
from spotune.contracts.job import Attempt, Decision, JobError, JobRecord
from spotune.lifecycle.attempts import begin_attempt, stand_in_line, take_back, transfer_due
from spotune.lifecycle.draft import Draft
from spotune.lifecycle.lines import line_of
from spotune.lifecycle.observed import observe
from spotune.lifecycle.opening import prepared
from spotune.lifecycle.rungs import next_rung, plan_of, rung_after_the_last, spot_time_left

NO_INSTANCE = frozenset({"", "Starting", "Pending", "Interrupted", "LaunchingMLInstances", "PreparingTrainingStack"})
"""SageMaker's secondary statuses before an instance works for the job."""


def decide(job: JobRecord, event: Event, now: Timestamp, *, no_funds: str = "", full_line: str = "") -> Decision | None:
    """What an event makes of a job; None where it changes nothing.

    Args:
        job: the record as it was read.
        event: what happened.
        now: seconds since the epoch.
        no_funds: a monthly limit refused the reservation of the decision made without this, and said so.
        full_line: the line that had no place for the attempt of the decision made without this.
    """
    draft = Draft(job, now, no_funds, full_line)
    match event:
        case Prepared():
            changed = job.state == "validating" and prepared(draft, event)
        case Refused():
            changed = job.state == "validating" and _refused(draft, event)
        case CheckBegun():
            changed = job.state == "validating" and job.check_begun_at is None
            draft.set(check_begun_at=now)
        case CopyStarted():
            changed = _copy_started(draft, event)
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
        case TurnCame():
            changed = _turn_came(draft)
    return draft.decision() if changed else None


def _refused(draft: Draft, event: Refused) -> bool:
    draft.set(training=event.training, validation=event.validation, golden=event.golden)
    draft.say(event.error.message, level="error", code=event.error.code)
    draft.finish("failed", event.error)
    return True


def _copy_started(draft: Draft, event: CopyStarted) -> bool:
    """Book the transfer, out of what the attempt has reserved for it, before its first byte: once a job."""
    job, attempt = draft.job, _find(draft.job, event.name)
    if job.transfer is not None or job.terminal or attempt is None or attempt.accepted or attempt.outcome is not None:
        return False
    due = transfer_due(job)
    draft.settle(attempt.with_(reserved=due), billed=due)
    draft.replace_attempt(attempt.with_(reserved=attempt.reserved - due))
    draft.set(transfer=due, waiting_for=f"its data to be copied to {job.region}")
    draft.say(f"Base model and data are copied to {job.region}; {dollars(due)} booked for it.", region=job.region)
    return True


def _accepted(draft: Draft, event: AttemptAccepted) -> bool:
    attempt = _find(draft.job, event.name)
    if attempt is None or attempt.accepted:
        return False
    if draft.job.terminal or attempt.outcome is not None:
        take_back(draft, attempt)
        return True
    draft.replace_attempt(attempt.with_(accepted=True))
    draft.set(state="starting", waiting_for="", in_line_since=None, refused_at=None)
    draft.say(f"Training job {event.name} accepted.", attempt=attempt.number)
    if attempt.stop_asked:
        draft.command(StopAttempt(name=event.name))
    return True


def _attempt_refused(draft: Draft, event: AttemptRefused) -> bool:
    attempt = _find(draft.job, event.name)
    if attempt is None or attempt.accepted or attempt.outcome is not None or draft.job.terminal:
        return False
    if event.ordered_at not in (None, attempt.requested_at):
        return False  # of an earlier order under this name, which a late delivery still speaks of
    if event.reason == "cancelled" or attempt.stop_asked:
        _close(draft, attempt.with_(outcome="stopped_by_user"))
        _end_unlaunched(draft, attempt)
    elif event.reason in ("quota", "capacity"):
        _close(draft, attempt.with_(outcome=event.reason))
        _wait_or_climb(draft, attempt, event)
    elif event.reason == "inputs":
        _close(draft, attempt.with_(outcome="user_error"))
        draft.say(event.message, level="error")
        draft.finish("failed", _inputs_changed(event.message))
    else:
        _close(draft, attempt.with_(outcome="internal"))
        error = _never_ran(event)
        draft.say(f"{error.message} {event.message}", level="error")
        draft.finish("failed", error)
    return True


def _never_ran(event: AttemptRefused) -> JobError:
    if event.reason == "checkpoint_gone":
        return JobError(
            code="checkpoint_gone",
            message="The checkpoint that this retry goes on from is not there any more.",
            evidence=event.message,
            remedy="Retry the job: what is left of the checkpoints is looked at anew.",
        )
    return JobError(
        code="permission_missing" if event.reason == "not_permitted" else "training_job_invalid",
        message="SageMaker refused the training job.",
        evidence=event.message,
        remedy="Grant the named action to the launch function's role."
        if event.reason == "not_permitted"
        else "This is a fault of Spotune's or of the installation's settings; report it with the evidence.",
    )


def _inputs_changed(evidence: str) -> JobError:
    return JobError(
        code="inputs_changed",
        message="The job's files or its base model changed before they were in its region.",
        param="training_file",
        evidence=evidence,
        remedy="Submit the job again once they stand still.",
    )


def _close(draft: Draft, attempt: Attempt) -> None:
    """Record the end of an attempt that never ran."""
    draft.replace_attempt(draft.settle(attempt, billed=0))


def _end_unlaunched(draft: Draft, attempt: Attempt) -> None:
    if draft.job.cancel_requested or attempt.stop_asked == "cancel":
        draft.say("Cancelled before it was launched; nothing was billed.")
        draft.finish("cancelled")
    else:
        draft.set(state="paused", waiting_for="resume")
        draft.say("Paused before it was launched.")


def _wait_or_climb(draft: Draft, attempt: Attempt, event: AttemptRefused) -> None:
    job = draft.job
    if event.reason == "quota":
        draft.set(refused_at=draft.now, in_line_since=job.in_line_since or attempt.requested_at)
        rung = rung_after_the_last(job, draft.now)
        stand_in_line(draft, rung, line_of(job, rung), why=event.message)
        return
    following = next_rung(job, draft.now)
    if following is not None:
        draft.say(f"No capacity for {attempt.instance_type} ({attempt.market}); trying the next rung.", level="warn")
        begin_attempt(draft, following)
        return
    waiting_for = f"capacity of {attempt.instance_type} ({attempt.market})"
    if waiting_for != job.waiting_for:
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
        draft.set(state="paused", waiting_for="resume", line="", in_line_since=None, refused_at=None)
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
    if job.terminal or job.cancel_requested or job.state == "paused":
        return False
    if job.line:
        return _leave_the_line(draft)
    if attempt is None:
        return job.state == "queued" and _order_again(draft)
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


def _leave_the_line(draft: Draft) -> bool:
    """A quota that does not come in time is waited for no longer than capacity would be."""
    following = next_rung(draft.job, draft.now)
    if following is None or draft.now < draft.job.idle_until:
        return False
    draft.say(f"No {draft.job.line} in time; trying the next rung.", level="warn")
    return _go_on(draft, following)


def _turn_came(draft: Draft) -> bool:
    """Nothing changes where the line that the job stands in has no place after all."""
    job = draft.job
    if not job.line or job.terminal or job.cancel_requested or draft.full_line == job.line:
        return False
    draft.in_turn = True
    over = spot_time_left(job, draft.now) == 0
    return _go_on(draft, len(plan_of(job).rungs) - 1 if over else job.rung)


def _order_again(draft: Draft) -> bool:
    """A wait for something that is in no line is over: the first rung again where no rung had capacity."""
    return _go_on(draft, rung_after_the_last(draft.job, draft.now))


def _go_on(draft: Draft, rung: int) -> bool:
    """Order what was waited for. Without funds it waits for these instead."""
    if not draft.no_funds:
        begin_attempt(draft, rung)
        return True
    if draft.job.waiting_for == draft.no_funds:
        return False
    draft.set(waiting_for=draft.no_funds, line="")
    draft.say(draft.no_funds, level="warn")
    return True


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
