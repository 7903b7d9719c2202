"""A job that failed or was cancelled, done again with changed settings: a new job, since terminal states are final."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from spotune.contracts.events import Prepared
from spotune.contracts.identity import ApiKey
from spotune.contracts.job import JobRecord
from spotune.contracts.refusal import refusal
from spotune.contracts.request import Hyperparameters, JobRequest, MethodChoice
from spotune.service.installation import Installation
from spotune.service.jobs.control import job_of
from spotune.service.jobs.submit import plan, request_sha256, submit
from spotune.service.merging import merged

_DEEPEST = 4
"""Levels of names in a request: `method.supervised.hyperparameters.n_epochs`."""

_UNSET: dict[str, dict[str, object]] = {
    "method": MethodChoice().model_dump(mode="json"),
    "hyperparameters": Hyperparameters().model_dump(mode="json"),
}
"""What changes of a group that the earlier request left out are put over."""


def changed_request(here: Installation, tenant: str, job_id: str, changes: Mapping[str, object]) -> JobRequest:
    """A job's request with a JSON merge patch (RFC 7396) applied: groups merge, lists are replaced, null resets.

    Raises:
        NotFound: there is no such job, for this tenant.
        RequestRefused: what comes out is no request; every unknown or wrong field is named.
    """
    body = job_of(here, tenant, job_id).request.model_dump(mode="json")
    try:
        return JobRequest.model_validate(merged(body, changes, levels=_DEEPEST, unset=_UNSET))
    except ValidationError as error:
        raise refusal(error.errors()) from None


def retry(
    here: Installation,
    tenant: str,
    job_id: str,
    request: JobRequest,
    idempotency_key: str | None = None,
    *,
    key: ApiKey | None = None,
) -> JobRecord:
    """Submit the changed request as a new job that goes on from the earlier one's checkpoint where it may.

    Without a key of the caller's, the same changes of the same job make the same retry, however often they are asked
    for: an answer that was lost costs nothing. Where that retry failed as well, it is what can be retried next.

    Raises:
        NotFound: there is no such job, for this tenant.
        Conflict: it has not failed and was not cancelled, or a training job of its own still lives.
        SpotuneError: as `submit` refuses.
    """
    earlier = job_of(here, tenant, job_id)
    once = idempotency_key or f"retry {request_sha256(request, earlier.id)}"
    return submit(here, tenant, request, once, key=key, retry_of=earlier)


def plan_retry(here: Installation, tenant: str, job_id: str, request: JobRequest) -> Prepared:
    """What `retry` would do; nothing is recorded, reserved or started.

    Raises:
        SpotuneError: as `retry` would.
    """
    return plan(here, tenant, request, retry_of=job_of(here, tenant, job_id))
