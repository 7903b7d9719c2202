"""Once a minute: whatever an event missed."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from handlers.logs import invocation, logger
from spotune.service.installation import installation
from spotune.service.reconcile import reconcile


@invocation("reconcile")
def handler(event: dict[str, Any], context: object) -> dict[str, int]:
    """Lambda's entry point; answers what was repaired."""
    repairs = asdict(reconcile(installation()))
    logger.info("reconciled", extra=repairs)
    return repairs
