"""`/v1/market`."""

from __future__ import annotations

from aws_lambda_powertools.event_handler.api_gateway import Router

from spotune.contracts.market import MarketSnapshot
from spotune.service.installation import installation
from spotune.service.market import current_market

router = Router()


@router.get("/v1/market", tags=["plans"], summary="Prices, interruption rates and quotas that plans are made on")
def market() -> MarketSnapshot:
    """The snapshot in force, with the age of each source."""
    return current_market(installation())
