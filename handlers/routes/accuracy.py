"""`/v1/accuracy`."""

from __future__ import annotations

from aws_lambda_powertools.event_handler.api_gateway import Router

from handlers.routes.paging import After, Limit, list_object
from spotune.contracts.api import AccuracyObject
from spotune.service.installation import installation
from spotune.service.jobs import history

router = Router()


@router.get("/v1/accuracy", tags=["plans"], summary="Forecasts against outcomes, and what plans learn from them")
def accuracy(after: After = None, limit: Limit = 20) -> AccuracyObject:
    """A page of finished jobs, newest first, and the corrections in force."""
    here = installation()
    page = history.list_runs(here, router.context["tenant"], after=after, limit=limit)
    listed = list_object(page.items, has_more=page.has_more)
    return AccuracyObject(**dict(listed), corrections=history.current_corrections(here))
