"""Every six hours: prices, spot history, interruption rates, placement scores and quotas."""

from __future__ import annotations

from typing import Any

from handlers.logs import invocation, logger
from spotune.service.installation import installation
from spotune.service.market import refresh


@invocation("refresh_market")
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry point; answers how old each source's values are, and why one failed."""
    snapshot = refresh(installation())
    answer = {"region": snapshot.region, "sources": [source.model_dump() for source in snapshot.sources]}
    logger.info("refreshed", extra=answer)
    return answer
