"""What became of an attempt: SageMaker's final description read as one of our outcomes."""

from __future__ import annotations

from spotune.contracts.events import TrainingObserved
from spotune.contracts.job import Attempt, JobError, Outcome
from spotune.contracts.training import ExitCode

CAPACITY_MARKS = ("CapacityError", "insufficient capacity", "InsufficientInstanceCapacity", "Unable to provision")


def classify(attempt: Attempt, seen: TrainingObserved) -> tuple[Outcome, JobError | None]:
    """The outcome of a final observation, and the error that a person reads where it is a bad one.

    `Stopped` is never success: without a report and a `Completed` status nothing was published.
    """
    if seen.status == "Completed":
        return _completed(seen)
    if seen.status == "Stopped":
        return _stopped(attempt, seen)
    return _failed(seen)


def _completed(seen: TrainingObserved) -> tuple[Outcome, JobError | None]:
    if seen.report is not None:
        return "completed", None
    return "internal", JobError(
        code="report_missing",
        message="The training job completed, but its report could not be read.",
        evidence=seen.output_uri or "",
        remedy="Look at the container's log; the checkpoints are kept.",
    )


def _stopped(attempt: Attempt, seen: TrainingObserved) -> tuple[Outcome, JobError | None]:
    if seen.secondary_status == "MaxWaitTimeExceeded":
        return "stopped_max_wait", JobError(
            code="capacity_wait_over",
            message=f"No capacity for {attempt.instance_type} ({attempt.market}) within {attempt.max_wait} s.",
            remedy="Allow more instance types or the on-demand market, or wait longer.",
        )
    if seen.secondary_status == "MaxRuntimeExceeded":
        return "stopped_max_runtime", JobError(
            code="time_or_money_ran_out",
            message=f"The attempt reached its {attempt.max_runtime} s before it could publish.",
            remedy="Retry it with a higher constraints.budget_usd: it goes on from its checkpoint.",
        )
    return "stopped_by_user", None


def _failed(seen: TrainingObserved) -> tuple[Outcome, JobError | None]:
    evidence = seen.failure_reason[:1024]
    if any(mark.lower() in evidence.lower() for mark in CAPACITY_MARKS):
        return "capacity", JobError(code="capacity", message="SageMaker found no capacity.", evidence=evidence)
    if seen.failure is not None and seen.exit_code == ExitCode.USER_ERROR:
        return "user_error", JobError(
            code=seen.failure.code,
            message=seen.failure.message,
            remedy=seen.failure.remedy,
            evidence=seen.failure.evidence,
        )
    return "internal", JobError(
        code=seen.failure.code if seen.failure else "internal",
        message=seen.failure.message if seen.failure else "The training job failed.",
        evidence=evidence,
        remedy=seen.failure.remedy if seen.failure else "Look at the container's log: spotune logs JOB.",
    )
