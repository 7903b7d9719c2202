"""`/v1/budget`."""

from __future__ import annotations

from typing import Annotated

from aws_lambda_powertools.event_handler.api_gateway import Router
from aws_lambda_powertools.event_handler.openapi.params import Query

from spotune.contracts.api import BudgetObject
from spotune.service.installation import installation
from spotune.service.jobs.budget import budget

router = Router()
Month = Annotated[str | None, Query(description="`YYYY-MM`, UTC; the present one where it is left out.")]


Key = Annotated[str | None, Query(description="Of one key that has a monthly limit, by its id.")]


@router.get("/v1/budget", tags=["money"], summary="What your tenant, or a key, has spent, reserved and left in a month")
def show(month: Month = None, key: Key = None) -> BudgetObject:
    """The ledger, and a warning from half of the limit on."""
    return budget(installation(), router.context["tenant"], month, key)
