"""Repairs what an event missed: commands left in the outbox, training jobs not looked at, waits that are over."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from spotune.contracts.base import Seconds
from spotune.contracts.errors import Unavailable
from spotune.contracts.events import RungDue
from spotune.contracts.job import JobRecord
from spotune.service.changes import apply, queue_commands
from spotune.service.installation import Installation
from spotune.service.observation import observe

logger = logging.getLogger(__name__)

COMMAND_AGE: Seconds = 60
"""A command older than this was not run by the delivery that its commit queued."""
RETRY_AFTER: Seconds = 300
"""How long a refused attempt waits before it is ordered again."""


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
    stale = tuple(here.store.pending_commands(here.clock() - COMMAND_AGE))
    queue_commands(here, stale)
    seen = changed = failed = 0
    for job_id in tuple(here.store.active_jobs()):
        seen += 1
        try:
            changed += _look(here, job_id)
        except Unavailable as error:
            failed += 1
            logger.warning("job %s could not be reconciled: %s", job_id, error)
    return Repairs(len(stale), seen, changed, failed)


def _look(here: Installation, job_id: str) -> bool:
    before = here.store.find_job(job_id)
    if before is None or before.terminal:
        return False
    if before.attempt is not None and before.attempt.accepted and before.attempt.outcome is None:
        observe(here, before.attempt.name)
    if _may_be_due(here, before):
        apply(here, job_id, RungDue())
    after = here.store.find_job(job_id)
    return after is not None and after.version != before.version


def _may_be_due(here: Installation, job: JobRecord) -> bool:
    waiting = job.state == "queued" and here.clock() - job.updated_at > RETRY_AFTER
    return waiting or job.state == "starting"
