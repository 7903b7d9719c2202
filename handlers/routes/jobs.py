"""`/v1/fine_tuning`: jobs, their log and checkpoints, and plans."""

from __future__ import annotations

from typing import Annotated, Any

from aws_lambda_powertools.event_handler.api_gateway import Router
from aws_lambda_powertools.event_handler.openapi.params import Body, Query

from handlers.routes.paging import After, Limit, list_object, number_after, page_after
from spotune.contracts.api import CheckpointObject, EventObject, JobObject, ListObject, PlanObject
from spotune.contracts.diagnosis import Diagnosis
from spotune.contracts.errors import RequestRefused
from spotune.contracts.job import Status
from spotune.contracts.quality import JobQuality
from spotune.contracts.request import JobRequest, PlanRequest
from spotune.service import views
from spotune.service.installation import installation
from spotune.service.jobs import checkpoints, control, retry, submit
from spotune.service.jobs.diagnosis import explain
from spotune.service.jobs.observation import progress_of
from spotune.service.jobs.quality import quality_of

router = Router()
JOBS = "/v1/fine_tuning/jobs"


@router.post(JOBS, tags=["jobs"], summary="Submit a job, or see its plan with dry_run")
def create(request: Annotated[JobRequest, Body()]) -> JobObject | PlanObject:
    """Nothing is recorded, reserved or started unless the answer is a job."""
    here, tenant = installation(), router.context["tenant"]
    if request.dry_run:
        return views.plan_object(submit.plan(here, tenant, request))
    key = router.current_event.headers.get("idempotency-key")
    return views.job_object(submit.submit(here, tenant, request, key, key=router.context["key"]))


@router.post("/v1/fine_tuning/plans", tags=["plans"], summary="What a job would take")
def plan(request: Annotated[PlanRequest, Body()]) -> PlanObject:
    """A plan and nothing else."""
    return views.plan_object(submit.plan(installation(), router.context["tenant"], request))


@router.get(JOBS, tags=["jobs"], summary="List jobs, newest first")
def list_jobs(after: After = None, limit: Limit = 20, status: Status | None = None) -> ListObject[JobObject]:
    """A page of jobs, or of those alone that have this status."""
    if any(name.startswith("metadata") for name in router.current_event.query_string_parameters):
        raise RequestRefused(
            "Jobs cannot be filtered by metadata.",
            code="filter_not_supported",
            param="metadata",
            remedy="Leave it out, or filter by status.",
        )
    page = control.list_jobs(installation(), router.context["tenant"], after=after, limit=limit, status=status)
    return list_object([views.job_object(job) for job in page.items], has_more=page.has_more)


@router.get(JOBS + "/<job_id>", tags=["jobs"], summary="One job with its live progress")
def retrieve(job_id: str) -> JobObject:
    """The record, and what the container last said."""
    here = installation()
    job = control.job_of(here, router.context["tenant"], job_id)
    return views.job_object(job, progress_of(here, job))


@router.post(JOBS + "/<job_id>/cancel", tags=["jobs"], summary="End a job; its checkpoints are kept")
def cancel(job_id: str) -> JobObject:
    """What runs is asked to stop; the state follows when it has."""
    return views.job_object(control.cancel(installation(), router.context["tenant"], job_id))


@router.post(JOBS + "/<job_id>/pause", tags=["jobs"], summary="Stop a job where it is")
def pause(job_id: str) -> JobObject:
    """Its checkpoints are kept for a resume."""
    return views.job_object(control.pause(installation(), router.context["tenant"], job_id))


@router.post(JOBS + "/<job_id>/resume", tags=["jobs"], summary="Let a paused job go on")
def resume(job_id: str) -> JobObject:
    """From its newest checkpoint."""
    return views.job_object(control.resume(installation(), router.context["tenant"], job_id))


@router.post(JOBS + "/<job_id>/retry", tags=["jobs"], summary="Do a failed or cancelled job again, changed")
def retry_job(job_id: str, changes: Annotated[dict[str, Any] | None, Body()] = None) -> JobObject | PlanObject:
    """A new job, from the old one's checkpoint where the changes allow it. The body changes the old request's fields;
    null sets one back to its default."""
    here, tenant = installation(), router.context["tenant"]
    request = retry.changed_request(here, tenant, job_id, changes or {})
    if request.dry_run:
        return views.plan_object(retry.plan_retry(here, tenant, job_id, request))
    key = router.current_event.headers.get("idempotency-key")
    return views.job_object(retry.retry(here, tenant, job_id, request, key, key=router.context["key"]))


@router.get(JOBS + "/<job_id>/diagnosis", tags=["jobs"], summary="Why a job is where it is, and what to do")
def diagnosis(job_id: str) -> Diagnosis:
    """The typed cause, what shows it, the remedy, and the command to run."""
    return explain(installation(), router.context["tenant"], job_id)


@router.get(JOBS + "/<job_id>/quality", tags=["jobs"], summary="The quality of a job's files")
def quality(job_id: str) -> JobQuality:
    """Duplicates, leaks, damage, personal data and secrets (never quoted), languages, classes, lengths."""
    return quality_of(installation(), router.context["tenant"], job_id)


@router.get(JOBS + "/<job_id>/events", tags=["jobs"], summary="A job's log, newest first")
def list_events(
    job_id: str, after: After = None, limit: Annotated[int, Query(ge=1, le=1000)] = 20
) -> ListObject[EventObject]:
    """A page of log lines; sequence numbers have no gaps."""
    page = control.list_log(
        installation(), router.context["tenant"], job_id, after=number_after(after, "-"), limit=limit
    )
    return list_object([views.event_object(event) for event in page.items], has_more=page.has_more)


@router.get(JOBS + "/<job_id>/checkpoints", tags=["jobs"], summary="A job's complete checkpoints, newest first")
def list_checkpoints(job_id: str, after: After = None, limit: Limit = 10) -> ListObject[CheckpointObject]:
    """Checkpoints whose manifest lies in S3."""
    job, manifests = checkpoints.list_checkpoints(installation(), router.context["tenant"], job_id)
    shown = [views.checkpoint_object(job, manifest) for manifest in manifests]
    page, has_more = page_after(shown, after, limit)
    return list_object(page, has_more=has_more)
