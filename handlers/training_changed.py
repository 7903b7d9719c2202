"""A training job changed its state: look at it."""

from __future__ import annotations

from typing import Any

from handlers.logs import invocation, logger
from spotune.service.installation import installation
from spotune.service.jobs.observation import observe


@invocation("training_changed")
def handler(event: dict[str, Any], context: object) -> None:
    """Lambda's entry point for EventBridge's `SageMaker Training Job State Change`."""
    name = event["detail"]["TrainingJobName"]
    job = observe(installation(), name)
    logger.info("observed", extra={"training_job": name, "state": job.state if job else "not ours"})
