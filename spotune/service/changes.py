"""One way to change a job: load, decide, commit guarded by the version, then put the commands on the queue.

A process killed after the commit loses nothing: the commands stand in the outbox, and the reconciler queues them again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from spotune.aws.base import AwsRefused
from spotune.contracts.base import dollars
from spotune.contracts.errors import Unavailable, VersionConflict
from spotune.contracts.events import Event
from spotune.contracts.job import JobRecord, OutboxEntry
from spotune.lifecycle import decide
from spotune.service.installation import Installation
from spotune.service.limits import places
from spotune.store.base import LimitReached, LineFull

logger = logging.getLogger(__name__)

MOST_TRIES = 10
"""A version conflict means that somebody else moved the job on: so many in a row are a fault."""


def apply(here: Installation, job_id: str, event: Event, *, beyond_quota: bool = False) -> JobRecord | None:
    """Let an event happen to a job; None where there is no such job.

    Where a monthly limit refuses a reservation, or a line has no place, the event is decided again knowing that, so
    that whatever else it brings (an attempt's end and its bill) is kept.

    Args:
        beyond_quota: order an attempt although the quota, as last fetched, is used up; SageMaker has the last word.

    Raises:
        Unavailable: the record kept changing under us.
    """
    no_funds = full_line = ""
    for _ in range(MOST_TRIES):
        job = here.store.find_job(job_id)
        if job is None:
            return None
        decision = decide(job, event, here.clock(), no_funds=no_funds, full_line=full_line)
        if decision is None:
            return job
        try:
            limit, room = here.settings.monthly_limit, places(here, decision, beyond_quota=beyond_quota)
            entries = here.store.commit(job, decision, limit=limit, places=room)
        except VersionConflict:
            continue
        except LimitReached as reached:
            no_funds = limit_message(reached)
            continue
        except LineFull as full:
            full_line = full.line
            continue
        queue_commands(here, entries)
        return decision.job
    raise Unavailable(f"Job {job_id} is being changed by others.", code="contention", remedy="Try the same call again.")


def queue_commands(here: Installation, entries: Iterable[OutboxEntry]) -> None:
    """Send commands to the queue. A queue that does not answer costs time, not the command."""
    for entry in entries:
        try:
            here.queue.send({"job_id": entry.job_id, "entry_id": entry.id})
        except (Unavailable, AwsRefused) as error:
            logger.warning("command %s stays in the outbox for the reconciler: %s", entry.id, error)


def limit_message(reached: LimitReached) -> str:
    """The monthly limit's refusal, with its figures."""
    ledger = reached.ledger
    whose = f"key {ledger.key}" if ledger.key else f"tenant {ledger.tenant}"
    return (
        f"The limit of {whose} for {ledger.month} is {dollars(ledger.limit)}; {dollars(ledger.billed)} "
        f"are billed and {dollars(ledger.reserved)} reserved, which leaves too little for this reservation."
    )
