"""A pass over many things: the edge of one part of it, and whose turn it is first."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar
from zlib import crc32

from spotune.contracts.base import Seconds, Timestamp
from spotune.contracts.subject import about

T = TypeVar("T")

PASS: Seconds = 60
"""From one pass of the reconciler to the next."""

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


def by_turns(what: str, things: Sequence[T], now: Timestamp) -> list[T]:
    """All of them, in each pass beginning with another one by chance, whatever else such a pass begins with: what takes
    all the time costs the others a few passes, and not their turn for ever."""
    first = crc32(f"{what} {int(now // PASS)}".encode()) % max(len(things), 1)
    return [*things[first:], *things[:first]]
