"""Takes files that landed in S3 into the rules that watch them, from the arrivals queue."""

from __future__ import annotations

from typing import Any

from handlers.logs import invocation, logger
from spotune.service.installation import installation
from spotune.service.retraining.arrivals import take


@invocation("data_arrived")
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry point for a batch of EventBridge's S3 events; answers which messages are to come again."""
    bodies = {record["messageId"]: record["body"] for record in event["Records"]}
    failed = take(installation(), bodies)
    logger.info("taken in", extra={"messages": len(bodies), "failed": len(failed)})
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}
