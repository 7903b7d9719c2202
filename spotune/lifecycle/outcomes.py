"""What became of an attempt: SageMaker's final description read as one of our outcomes."""

from __future__ import annotations

import re

from spotune.contracts.events import TrainingObserved
from spotune.contracts.job import Attempt, JobError, Outcome
from spotune.contracts.training import ExitCode

PERMISSION_MARKS = ("AccessDenied", "Access Denied", "insufficient permissions", "permissions are incorrect")
"""In SageMaker's words where the training role may not read, write or pull what it is told to."""
MISSING_MARKS = ("NoSuchKey", "NoSuchBucket", "matched no files", "Not Found", "does not exist", "illegal char")
"""In SageMaker's words where a channel cannot be downloaded however often it is tried."""
_BASE_MODEL = re.compile(r"s3://[^/\s]+/base/")
"""A base model's folder: see spotune.contracts.layout."""
KILLED = 137
"""128 + SIGKILL: the kernel ends a process so where the host's memory ends; SageMaker's own stops are told apart."""
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
    if seen.failure is None:
        return _without_words_of_the_containers(evidence, seen.exit_code)
    return "internal", JobError(
        code=seen.failure.code, message=seen.failure.message, evidence=evidence, remedy=seen.failure.remedy
    )


def _without_words_of_the_containers(reason: str, exit_code: int | None) -> tuple[Outcome, JobError]:
    """What SageMaker itself says of an end that the container did not explain."""
    if reason.startswith("ClientError") and any(mark in reason for mark in PERMISSION_MARKS):
        return "user_error", JobError(
            code="permission_missing",
            message="SageMaker may not read, write or pull what the training job needs.",
            evidence=reason,
            remedy="Grant the training role what the evidence names (TrainingRole in infra/template.yaml).",
        )
    if reason.startswith("ClientError") and "download" in reason.lower():
        outcome: Outcome = "user_error" if any(mark in reason for mark in MISSING_MARKS) else "internal"
        return outcome, _download_failed(reason)
    if exit_code == KILLED:
        return "internal", JobError(
            code="process_killed",
            message="The training process was killed, as it is where the machine's own memory ends.",
            evidence=reason,
            remedy="Allow an instance type with more memory, or lower training.max_sequence_length.",
        )
    return "internal", JobError(
        code="internal",
        message="The training job failed.",
        evidence=reason,
        remedy="Look at the container's log: spotune logs JOB.",
    )


def _download_failed(reason: str) -> JobError:
    if _BASE_MODEL.search(reason):
        return JobError(
            code="model_download_failed",
            message="SageMaker could not download the base model.",
            evidence=reason,
            remedy="Add the base model again; the evidence names what is missing.",
        )
    return JobError(
        code="data_download_failed",
        message="SageMaker could not download the job's files.",
        evidence=reason,
        remedy="Upload the file that the evidence names again, and submit the job with it.",
    )
