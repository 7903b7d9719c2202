"""`/v1/fine_tuning/jobs/{id}/dataset`: what a job was trained on."""

from __future__ import annotations

from typing import Annotated

from aws_lambda_powertools.event_handler.api_gateway import Router
from aws_lambda_powertools.event_handler.openapi.params import Query

from handlers.routes.paging import list_object
from spotune.contracts.api import ListObject
from spotune.contracts.pull import DatasetObject, PinnedObject
from spotune.service.installation import installation
from spotune.service.retraining import provenance

router = Router()
DATASET = "/v1/fine_tuning/jobs/<job_id>/dataset"


@router.get(DATASET, tags=["jobs"], summary="What a job was trained on, with URLs to read it from")
def retrieve(job_id: str) -> DatasetObject:
    """The files by their hashes, and the manifest that a rule's retraining was made by."""
    return provenance.dataset_of(installation(), router.context["tenant"], job_id)


@router.get(DATASET + "/objects", tags=["jobs"], summary="The objects that a job's dataset can be built from again")
def list_objects(
    job_id: str,
    after: Annotated[str | None, Query(pattern=r"^\d{1,9}$", description="The last id of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> ListObject[PinnedObject]:
    """Object versions of the manifest, in its order, with URLs to read them from."""
    here, tenant = installation(), router.context["tenant"]
    page, has_more = provenance.pinned_objects(here, tenant, job_id, after=after, limit=limit)
    return list_object(page, has_more=has_more)
