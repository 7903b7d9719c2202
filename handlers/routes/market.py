"""`/v1/market`."""

from __future__ import annotations

from aws_lambda_powertools.event_handler.api_gateway import Router

from spotune.contracts.market import MarketSnapshot
from spotune.service.installation import installation
from spotune.service.market import market_of

router = Router()


@router.get("/v1/market", tags=["plans"], summary="Prices, interruption rates and quotas that plans are made on")
def market(region: str | None = None) -> MarketSnapshot:
    """The snapshot in force of one of the installation's regions, its home without one; with each source's age."""
    return market_of(installation(), region)
