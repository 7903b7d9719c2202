"""Which changes of a job people wait for: those that leave as notifications."""

from __future__ import annotations

from spotune.contracts.job import JobRecord, State
from spotune.contracts.notifications import EventType

WAITING: EventType = "fine_tuning.job.waiting"

_NEWS: dict[State, EventType] = {
    "running": "fine_tuning.job.running",
    "interrupted": "fine_tuning.job.interrupted",
    "paused": "fine_tuning.job.paused",
    "succeeded": "fine_tuning.job.succeeded",
    "failed": "fine_tuning.job.failed",
    "cancelled": "fine_tuning.job.cancelled",
}


def news_of(before: JobRecord, after: JobRecord) -> EventType | None:
    """What is told of a change; None where nobody waits for it.

    A wait is told when it begins, and not again until the job has run: it may be called, refused and wait again every
    few minutes, and what it waits for may change.
    """
    if after.state != before.state and after.state in _NEWS:
        return _NEWS[after.state]
    waits = after.state == "queued" and after.waiting_for != ""
    return WAITING if waits and not after.wait_told else None
