"""The life of a training job: what each signal and each passing second changes, and what is to be done next.

    Starting -> [Pending] -> Downloading -> Training -> Uploading -> Completed | Failed | Stopped
        ^                            |          |
        +----------- Interrupted <---+----------+     spot only; the next launch restores the checkpoints
        +----------- Restarting <----+----------+     after an internal error, as often as RetryStrategy allows

Pure: no clock, no process, no cloud. Both runners stand on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from math import inf

from spotune.local.double.job import HostProcess, Job, Secondary, Status, StopCause, Transition
from spotune.local.double.settings import Timing

INTERNAL_ERROR = "InternalServerError: We encountered an internal error. Please try again."
CAPACITY_ERROR = (
    "CapacityError: Unable to provision requested ML compute capacity. Please retry using a different ML instance type."
)
MESSAGES: dict[Secondary, str] = {
    "Starting": "Preparing the instances for training",
    "Pending": "Insufficient capacity while launching instances, retrying",
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Interrupted": "The managed spot training instances were interrupted",
    "Restarting": "Restarting the training job after an internal error",
    "Uploading": "Uploading generated training model",
    "Stopping": "Stopping the training job",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
    "MaxWaitTimeExceeded": "Training job wait time exceeded MaxWaitTimeInSeconds provided",
}
FAILURE_CHARACTERS = 1024


class Act(StrEnum):
    """What a runner is to do; it answers with a signal."""

    DOWNLOAD = "download"
    RUN = "run"
    TERMINATE = "terminate"
    KILL = "kill"
    UPLOAD = "upload"
    DISCARD = "discard"
    """The instances are gone, and what was on them."""


@dataclass(frozen=True)
class Downloaded:
    """Channels and checkpoints lie on the instances."""


@dataclass(frozen=True)
class InputRefused:
    """A channel cannot be downloaded; `reason` becomes FailureReason."""

    reason: str


@dataclass(frozen=True)
class Started:
    """The processes run."""

    processes: tuple[HostProcess, ...]


@dataclass(frozen=True)
class Exited:
    """All processes have ended. `failure` is what the container left in `output/failure`."""

    code: int
    failure: str = ""


@dataclass(frozen=True)
class Uploaded:
    """What the job leaves is in S3; `artifacts` is the model's URI, empty where there is none."""

    artifacts: str = ""


@dataclass(frozen=True)
class Broken:
    """SageMaker's own fault: storage away, instance lost."""


Signal = Downloaded | InputRefused | Started | Exited | Uploaded | Broken
FindCapacity = Callable[[Job], str | None]
"""An instance type with room for the job now, or None."""


def created(job: Job, timing: Timing) -> None:
    """The job was accepted."""
    _enter(job, "InProgress", "Starting", job.created_at)
    job.due_at = job.created_at + timing.starting


def next_due(job: Job, timing: Timing) -> float:
    """The next second at which `on_time` has something to do; infinity if none."""
    if not job.live:
        return inf
    moments = [job.due_at, job.kill_at]
    if job.stop_cause is None and job.secondary != "Uploading":
        if job.max_wait is not None:
            moments.append(job.created_at + job.max_wait)
        if job.billing_since is not None:
            moments.append(job.billing_since + job.max_runtime - job.billed_before)
    return min((moment for moment in moments if moment is not None), default=inf)


def on_time(job: Job, now: float, timing: Timing, find_capacity: FindCapacity) -> tuple[Act, ...]:
    """What the clock alone brings: limits, the end of a grace, instances."""
    if not job.live:
        return ()
    if job.kill_at is not None and job.kill_at <= now:
        job.kill_at = None
        return (Act.KILL,)
    if job.stop_cause is None and job.secondary != "Uploading":
        if job.max_wait is not None and job.created_at + job.max_wait <= now:
            return stop(job, "MaxWaitTimeExceeded", now, timing)
        if job.billing_since is not None and job.billed(now) >= job.max_runtime:
            return stop(job, "MaxRuntimeExceeded", now, timing)
    if job.waiting and job.due_at is not None and job.due_at <= now:
        return _seek_instances(job, now, timing, find_capacity)
    return ()


def on_signal(job: Job, signal: Signal, now: float) -> tuple[Act, ...]:
    """What a runner reports. A signal that the present phase does not expect changes nothing."""
    match signal:
        case Started(processes):
            job.processes = list(processes)
            return ()
        case Downloaded() if job.secondary == "Downloading":
            _enter(job, "InProgress", "Training", now)
            return (Act.RUN,)
        case Exited(code, failure) if _holds_instances(job):
            return _exited(job, code, failure, now)
        case InputRefused(reason) if _holds_instances(job):
            return _fail(job, reason, now)
        case Broken() if _holds_instances(job):
            return _broken(job, now)
        case Uploaded(artifacts) if _holds_instances(job):
            return _uploaded(job, artifacts, now)
        case _:
            return ()


def stop(job: Job, cause: StopCause, now: float, timing: Timing) -> tuple[Act, ...]:
    """End the job early: SIGTERM now, SIGKILL after the grace, then the upload. The first cause stays."""
    if job.stop_cause is not None:
        return ()
    phase = job.secondary
    job.stop_cause = cause
    held_instances = not job.waiting
    _enter(job, "Stopping", "Stopping", now)
    if not held_instances:
        return _finish(job, "Stopped", cause, now)
    if phase == "Uploading":
        return ()
    if phase == "Downloading":
        return (Act.KILL,)
    job.kill_at = now + timing.stop_grace
    return (Act.TERMINATE,)


def interrupt(job: Job, notice: float, restart_after: float, now: float) -> tuple[Act, ...]:
    """Take the spot instances away: at once, or with SIGTERM `notice` seconds before."""
    job.restart_after = restart_after
    if notice > 0 and job.secondary == "Training":
        job.kill_at = now + notice
        return (Act.TERMINATE,)
    return (Act.KILL,)


def interruptible(job: Job) -> bool:
    """Spot instances are held, and nothing else is ending the job already."""
    return job.spot and job.secondary in ("Downloading", "Training") and job.restart_after is None


def lost_double(job: Job, alive_until: float, now: float) -> tuple[Act, ...]:
    """The double itself was killed and is back: whatever ran is gone, as with a lost instance.

    Waiting jobs go on. Spot jobs count it as an interruption, others fail; a job that was stopping has stopped.
    """
    if not _holds_instances(job):
        return ()
    _end_billing(job, alive_until)
    job.processes = []
    if job.stop_cause is not None:
        return _finish(job, "Stopped", job.stop_cause, now)
    if job.spot:
        job.restart_after = 0.0
        return _interrupted(job, now)
    return _broken(job, now)


def _holds_instances(job: Job) -> bool:
    return job.live and not job.waiting


def _seek_instances(job: Job, now: float, timing: Timing, find_capacity: FindCapacity) -> tuple[Act, ...]:
    if job.secondary in ("Interrupted", "Restarting"):
        _enter(job, "InProgress", "Starting", now)
        job.due_at = now + timing.starting
        return ()
    instance_type = find_capacity(job)
    if instance_type is None:
        return _wait_for_capacity(job, now, timing)
    job.instance_type, job.launches = instance_type, job.launches + 1
    job.due_at = job.pending_since = None
    job.billing_since = now
    job.training_started_at = job.training_started_at or now
    _enter(job, "InProgress", "Downloading", now)
    return (Act.DOWNLOAD,)


def _wait_for_capacity(job: Job, now: float, timing: Timing) -> tuple[Act, ...]:
    if job.secondary != "Pending":
        job.pending_since = now
        _enter(job, "InProgress", "Pending", now)
    condition = job.request.get("StoppingCondition", {})
    patience = condition.get("MaxPendingTimeInSeconds", inf if job.spot else timing.capacity_patience)
    if now - (job.pending_since or now) >= patience:
        return _fail(job, CAPACITY_ERROR, now)
    job.due_at = now + timing.capacity_retry
    return ()


def _exited(job: Job, code: int, failure: str, now: float) -> tuple[Act, ...]:
    job.processes = []
    job.kill_at = None
    job.exit_code = code
    published = code == 0 and job.secondary == "Training"
    if job.restart_after is not None and not published:
        return _interrupted(job, now)
    job.restart_after = None
    if job.stop_cause is None:
        if code != 0:
            job.failure_reason = f"AlgorithmError: {failure[:FAILURE_CHARACTERS]}, exit code: {code}"
        _enter(job, "InProgress", "Uploading", now)
    return (Act.UPLOAD,)


def _interrupted(job: Job, now: float) -> tuple[Act, ...]:
    _end_billing(job, now)
    job.interruptions += 1
    restart_after, job.restart_after = job.restart_after or 0.0, None
    if job.stop_cause is not None:
        return _finish(job, "Stopped", job.stop_cause, now)
    _enter(job, "InProgress", "Interrupted", now)
    job.due_at = now + restart_after
    return (Act.DISCARD,)


def _uploaded(job: Job, artifacts: str, now: float) -> tuple[Act, ...]:
    job.artifacts = artifacts
    if job.failure_reason:
        return _finish(job, "Failed", "Failed", now)
    if job.stop_cause is not None:
        return _finish(job, "Stopped", job.stop_cause, now)
    return _finish(job, "Completed", "Completed", now)


def _broken(job: Job, now: float) -> tuple[Act, ...]:
    """RetryStrategy starts the job anew, with its checkpoints; MaxRuntime bounds all tries together."""
    if job.stop_cause is not None or job.retries >= job.max_retries:
        return _fail(job, INTERNAL_ERROR, now)
    _end_billing(job, now)
    job.retries += 1
    job.failure_reason = ""
    job.restart_after = job.kill_at = None
    _enter(job, "InProgress", "Restarting", now)
    job.due_at = now
    return (Act.DISCARD,)


def _fail(job: Job, reason: str, now: float) -> tuple[Act, ...]:
    job.failure_reason = reason
    return _finish(job, "Failed", "Failed", now)


def _finish(job: Job, status: Status, secondary: Secondary, now: float) -> tuple[Act, ...]:
    _end_billing(job, now)
    job.due_at = job.kill_at = job.restart_after = None
    job.training_ended_at = now
    _enter(job, status, secondary, now)
    job.transitions[-1].ended_at = now
    return (Act.DISCARD,)


def _enter(job: Job, status: Status, secondary: Secondary, now: float) -> None:
    if job.transitions:
        job.transitions[-1].ended_at = now
    job.status, job.secondary, job.modified_at = status, secondary, now
    job.transitions.append(Transition(secondary, now, MESSAGES[secondary]))


def _end_billing(job: Job, now: float) -> None:
    job.billed_before = job.billed(now)
    job.billing_since = None
