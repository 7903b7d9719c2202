"""Every six hours: prices, spot history, interruption rates, placement scores and quotas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from handlers.logs import invocation, logger
from spotune.contracts.market import Source
from spotune.service.installation import installation
from spotune.service.market import refresh_all


@invocation("refresh_market")
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry point; answers how old each source's values are in each region, and why one failed."""
    home, *further = ({"region": one.region, "sources": _dump(one.sources)} for one in refresh_all(installation()))
    answer = {**home, "further": further}
    logger.info("refreshed", extra=answer)
    return answer


def _dump(sources: Iterable[Source]) -> list[dict[str, Any]]:
    return [source.model_dump() for source in sources]
