"""The edge of one part of a pass over many things."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from spotune.contracts.subject import about

T = TypeVar("T")

logger = logging.getLogger(__name__)


class PartsFailed(Exception):
    """Parts of a part failed. Each of them was set apart, and logged, by itself."""


def apart(what: str, work: Callable[[], T], **subject: object) -> T | None:
    """Do one part of a pass; None where it failed: whatever is wrong with it, the others have their turn.

    Args:
        subject: what the part is about, for its log lines: job, tenant, attempt.
    """
    with about(**subject):
        try:
            return work()
        except Exception:
            logger.exception("%s could not be reconciled", what)
            return None
