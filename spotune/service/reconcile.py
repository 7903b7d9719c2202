"""Repairs what an event missed: commands left in the outbox, training jobs not looked at, waits that are over."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from spotune.contracts.base import Seconds
from spotune.contracts.events import Refused, RungDue
from spotune.contracts.job import JobError, JobRecord, OutboxEntry
from spotune.service.changes import apply, queue_commands
from spotune.service.installation import Installation
from spotune.service.observation import observe

logger = logging.getLogger(__name__)

COMMAND_AGE: Seconds = 60
"""A command older than this was not run by the delivery that its commit queued."""
CHECK_DELIVERY: Seconds = 960
"""A check of files that was begun is over by then: the launch function's time limit, and a minute."""
PASS: Seconds = 60
"""Between two passes: a check of files is queued again in one of them only."""
CHECK_LIMIT: Seconds = 5400
"""A check of files that has not ended by then never will: its deliveries were cut off one after another."""
RETRY_AFTER: Seconds = 300
"""How long a refused attempt waits before it is ordered again."""

_CHECK_TIMED_OUT = JobError(
    code="check_timed_out",
    message=f"The job's files could not be checked within {CHECK_LIMIT} s.",
    param="training_file",
    remedy="Split the file, or check it where it lies with spotune data check and submit a part of it.",
)


@dataclass(frozen=True, slots=True)
class Repairs:
    """What one pass did."""

    commands_queued: int
    jobs_seen: int
    jobs_changed: int
    jobs_failed: int
    """Jobs that could not be looked at now; the next pass tries again."""


def reconcile(here: Installation) -> Repairs:
    """One pass over everything that is not finished. Reads grow with that alone."""
    stale = [entry for entry in here.store.pending_commands(here.clock() - COMMAND_AGE) if _is_lost(here, entry)]
    queue_commands(here, stale)
    seen = changed = failed = 0
    for job_id in tuple(here.store.active_jobs()):
        seen += 1
        try:
            changed += _look(here, job_id)
        except Exception:  # the edge of one job: whatever is wrong with it, the others are looked at
            failed += 1
            logger.exception("job %s could not be reconciled", job_id)
    return Repairs(len(stale), seen, changed, failed)


def _is_lost(here: Installation, entry: OutboxEntry) -> bool:
    """True where no delivery can be at work on a command: reading a large file takes one many minutes."""
    age = here.clock() - entry.created_at
    return entry.command.kind != "check_dataset" or COMMAND_AGE <= age % CHECK_DELIVERY < COMMAND_AGE + PASS


def _look(here: Installation, job_id: str) -> bool:
    before = here.store.find_job(job_id)
    if before is None or not before.open:
        return False
    for attempt in before.attempts:
        if attempt.live:
            observe(here, attempt.name)
    if before.state == "validating" and here.clock() - before.created_at > CHECK_LIMIT:
        apply(here, job_id, Refused(error=_CHECK_TIMED_OUT))
    if _may_be_due(here, before):
        apply(here, job_id, RungDue())
    after = here.store.find_job(job_id)
    return after is not None and after.version != before.version


def _may_be_due(here: Installation, job: JobRecord) -> bool:
    waiting = job.state == "queued" and here.clock() - job.updated_at > RETRY_AFTER
    return waiting or job.state in ("starting", "interrupted")
