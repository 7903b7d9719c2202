"""What SageMaker's description of a training job makes of its job."""

from __future__ import annotations

from spotune.contracts.base import dollars
from spotune.contracts.commands import StopAttempt
from spotune.contracts.events import TrainingObserved
from spotune.contracts.job import ENDED, Attempt, JobError, JobRecord, Outcome, State
from spotune.contracts.plan import Rung
from spotune.lifecycle.attempts import begin_attempt, billed_cost, take_back
from spotune.lifecycle.draft import Draft
from spotune.lifecycle.outcomes import classify
from spotune.lifecycle.publication import publish
from spotune.lifecycle.rungs import next_rung, plan_of

INTERNAL_RETRIES = 2
"""Attempts that may fail for reasons that are not the user's before the job does."""

_ORDER = {"starting": 0, "interrupted": 0, "running": 1, "evaluating": 2}
"""States between two interruptions or restarts, in their order."""


def observe(draft: Draft, seen: TrainingObserved) -> bool:
    """Apply a description to the attempt it names; False where it says nothing new."""
    attempt = next((one for one in draft.job.attempts if one.name == seen.name), None)
    if attempt is None or (attempt.outcome is not None and attempt.status in ENDED):
        return False
    if attempt.outcome is not None or draft.job.terminal:
        return _observe_left_over(draft, attempt, seen)
    if seen.status in ENDED:
        _finish(draft, attempt, seen)
        return True
    return _move(draft, attempt, seen)


def _observe_left_over(draft: Draft, attempt: Attempt, seen: TrainingObserved) -> bool:
    """A training job that we had given up lives: stop it, and book what it costs."""
    if seen.status in ENDED:
        outcome = attempt.outcome or "stopped_by_user"
        ended = _described(draft.job, attempt, seen).with_(accepted=True, outcome=outcome)
        billed = billed_cost(ended, seen.billable_seconds)
        draft.replace_attempt(draft.settle(ended, billed))
        draft.say(f"Training job {seen.name} ended after it was given up; {dollars(billed)} billed.", level="warn")
        return True
    if attempt.stop_asked and seen.status == "Stopping":
        return False
    if not attempt.accepted:
        take_back(draft, attempt)
    else:
        draft.replace_attempt(attempt.with_(stop_asked="cancel"))
        draft.command(StopAttempt(name=seen.name))
    return True


def _move(draft: Draft, attempt: Attempt, seen: TrainingObserved) -> bool:
    before, state = draft.job.state, _state_of(seen)
    older = (_launches(seen), _ORDER[state]) < (_launches(attempt), _ORDER.get(before, 0))
    described = _described(draft.job, attempt, seen).with_(accepted=True)
    if older or described == attempt:
        return False
    draft.replace_attempt(described)
    draft.set(waiting_for="", state=state, in_line_since=None, refused_at=None)
    if seen.interruptions > attempt.interruptions:
        draft.say(
            f"Interrupted: spot took the instance back. SageMaker waits for capacity; "
            f"training goes on from the newest checkpoint. (interruption {seen.interruptions})",
            level="warn",
        )
    elif seen.restarts > attempt.restarts:
        draft.say(
            "SageMaker starts the training job anew after an internal error; "
            "training goes on from the newest checkpoint.",
            level="warn",
        )
    elif state != before:
        draft.say(_ANNOUNCED[state])
    if not attempt.accepted and attempt.stop_asked:
        draft.command(StopAttempt(name=attempt.name))
    return True


def _launches(one: TrainingObserved | Attempt) -> int:
    """How often SageMaker has begun anew."""
    return one.interruptions + one.restarts


_ANNOUNCED: dict[State, str] = {
    "starting": "Waiting for the instance.",
    "running": "Training.",
    "interrupted": "Waiting for capacity after an interruption.",
    "evaluating": "Training ended; results are being published.",
}


def _state_of(seen: TrainingObserved) -> State:
    """Our state for SageMaker's secondary status. After an interruption or a restart a start-up is `interrupted`."""
    if seen.secondary_status == "Training":
        return "running"
    if seen.secondary_status in ("Uploading", "Stopping"):
        return "evaluating"
    return "interrupted" if _launches(seen) else "starting"


def _finish(draft: Draft, attempt: Attempt, seen: TrainingObserved) -> None:
    outcome, error = classify(attempt, seen)
    ended = _described(draft.job, attempt, seen).with_(accepted=True, outcome=outcome)
    billed = billed_cost(ended, seen.billable_seconds)
    ended = draft.settle(ended, billed)
    draft.replace_attempt(ended)
    draft.say(
        f"Attempt {attempt.number} ended: {outcome.replace('_', ' ')}; {seen.billable_seconds} s billed, "
        f"{dollars(billed)}.",
        outcome=outcome,
    )
    _after(draft, ended, outcome, error, seen)


def _after(draft: Draft, attempt: Attempt, outcome: Outcome, error: JobError | None, seen: TrainingObserved) -> None:
    if outcome == "completed":
        publish(draft, seen)
    elif draft.job.cancel_requested:
        draft.say("Cancelled; its checkpoints are kept.")
        draft.finish("cancelled")
    elif outcome in ("user_error", "stopped_max_runtime") and error is not None:
        draft.say(error.message, level="error")
        draft.finish("failed", error)
    elif attempt.stop_asked == "pause":
        draft.set(state="paused", waiting_for="resume")
        draft.say("Paused; its checkpoints are kept.")
    elif attempt.stop_asked == "patience" or outcome in ("capacity", "stopped_max_wait"):
        _climb(draft, error)
    elif outcome == "internal" and _internal_failures(draft) <= INTERNAL_RETRIES:
        draft.say("Trying again from the newest checkpoint.", level="warn")
        begin_attempt(draft, draft.job.rung)
    elif outcome == "stopped_by_user":
        draft.say("The training job was stopped outside Spotune; its checkpoints are kept.", level="warn")
        draft.finish("cancelled")
    else:
        draft.say(error.message if error else outcome, level="error")
        draft.finish("failed", error)


def _climb(draft: Draft, error: JobError | None) -> None:
    following = next_rung(draft.job, draft.now)
    if following is not None:
        begin_attempt(draft, following)
        return
    types = " or ".join(plan_of(draft.job).rungs[draft.job.rung].instance_types)
    draft.set(state="queued", waiting_for=f"capacity of {types}")
    draft.say(
        f"No capacity on any rung; waiting, then from the first rung again. {error.message if error else ''}".strip(),
        level="warn",
    )


def _internal_failures(draft: Draft) -> int:
    return sum(attempt.outcome == "internal" for attempt in draft.job.attempts)


def _rung_that_has(job: JobRecord, attempt: Attempt, instance_type: str) -> Rung:
    """The attempt's rung, or the one that its training job was really ordered for.

    A request of an earlier rung may come through late, under the name that the next order has again. It is billed at
    what it runs on, and its worst case was within the same cap: nothing was billed between the two orders.
    """
    rungs = plan_of(job).rungs
    candidates = (rungs[attempt.rung], *rungs)
    return next((rung for rung in candidates if instance_type in rung.instance_types), rungs[attempt.rung])


def _described(job: JobRecord, attempt: Attempt, seen: TrainingObserved) -> Attempt:
    selected = seen.instance_type or attempt.instance_type
    price, on_demand_price = _rung_that_has(job, attempt, selected).prices_of(selected)
    return attempt.with_(
        status=seen.status,
        secondary_status=seen.secondary_status,
        instance_type=selected,
        price=price,
        on_demand_price=on_demand_price,
        started_at=seen.started_at,
        ended_at=seen.ended_at,
        interruptions=max(seen.interruptions, attempt.interruptions),
        restarts=max(seen.restarts, attempt.restarts),
        training_seconds=seen.training_seconds,
        billable_seconds=seen.billable_seconds,
    )
