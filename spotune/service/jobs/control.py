"""What a person does to a job: look, list, cancel, pause, resume."""

from __future__ import annotations

from spotune.contracts.errors import Conflict, NotFound
from spotune.contracts.events import CancelRequested, Event, PauseRequested, ResumeRequested
from spotune.contracts.job import JobRecord, LogEvent, Status
from spotune.contracts.subject import know_job
from spotune.service.installation import Installation
from spotune.service.jobs.changes import apply
from spotune.store.page import Page


def job_of(here: Installation, tenant: str, job_id: str) -> JobRecord:
    """A tenant's job.

    Raises:
        NotFound: there is none of this id, for this tenant.
    """
    job = here.store.get_job(tenant, job_id)
    if job is None:
        raise NotFound(
            f"No fine-tuning job {job_id!r}.",
            code="job_not_found",
            param="fine_tuning_job_id",
            remedy="List yours with `spotune list` or GET /v1/fine_tuning/jobs.",
        )
    know_job(job)
    return job


def list_jobs(
    here: Installation, tenant: str, *, after: str | None, limit: int, status: Status | None = None
) -> Page[JobRecord]:
    """A page of a tenant's jobs, newest first; with `status` of those alone that have it."""
    return here.store.list_jobs(tenant, after=after, limit=limit, status=status)


def list_log(here: Installation, tenant: str, job_id: str, *, after: int, limit: int) -> Page[LogEvent]:
    """A page of a job's log, newest first."""
    job_of(here, tenant, job_id)
    return here.store.list_log(tenant, job_id, after=after, limit=limit)


def cancel(here: Installation, tenant: str, job_id: str) -> JobRecord:
    """End a job. One that is cancelled, or being cancelled, stays so.

    Raises:
        Conflict: it succeeded or failed already.
    """
    job = job_of(here, tenant, job_id)
    if job.state in ("succeeded", "failed"):
        raise _wrong_state(job, "cancelled")
    return _change(here, job, CancelRequested())


def pause(here: Installation, tenant: str, job_id: str) -> JobRecord:
    """Stop a job where it is and keep its checkpoint.

    Raises:
        Conflict: it is over, or not started.
    """
    job = job_of(here, tenant, job_id)
    if job.terminal or job.cancel_requested or job.state == "validating":
        raise _wrong_state(job, "paused")
    return _change(here, job, PauseRequested())


def resume(here: Installation, tenant: str, job_id: str) -> JobRecord:
    """Let a paused job go on from its newest checkpoint.

    Raises:
        Conflict: it is not paused, or the tenant's monthly limit leaves too little for it; it stays paused then.
    """
    job = job_of(here, tenant, job_id)
    if job.state != "paused":
        pausing = job.attempt is not None and job.attempt.stop_asked == "pause" and not job.terminal
        raise _wrong_state(job, "resumed", pausing=pausing)
    resumed = _change(here, job, ResumeRequested())
    if resumed.state == "paused":
        raise Conflict(
            f"The tenant's monthly limit leaves too little to resume job {job.id}; it stays paused.",
            code="monthly_limit_reached",
            remedy="Have the limit raised, or resume it next month.",
        )
    return resumed


def _change(here: Installation, job: JobRecord, event: Event) -> JobRecord:
    return apply(here, job.id, event) or job


def _wrong_state(job: JobRecord, what: str, *, pausing: bool = False) -> Conflict:
    return Conflict(
        f"Job {job.id} is {job.state}, so it cannot be {what}.",
        code="wrong_state",
        param="fine_tuning_job_id",
        remedy="It is being stopped: resume it once it is paused."
        if pausing
        else f"See it with `spotune show {job.id}` or GET /v1/fine_tuning/jobs/{job.id}.",
    )
