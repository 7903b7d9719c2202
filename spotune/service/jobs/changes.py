"""One way to change a job: load, decide, commit guarded by the version, then put the commands on the queue.

A process killed after the commit loses nothing: the commands stand in the outbox, and the reconciler queues them again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from spotune.aws.base import AwsRefused
from spotune.contracts.base import dollars
from spotune.contracts.commands import OutboxEntry, StartAttempt, StopAttempt
from spotune.contracts.errors import Unavailable, VersionConflict
from spotune.contracts.events import AttemptAccepted, AttemptRefused, Event, TrainingObserved
from spotune.contracts.job import JobRecord
from spotune.contracts.subject import about, attempt_number, know_job
from spotune.lifecycle import decide, measure_decision
from spotune.service.installation import Installation
from spotune.service.jobs.limits import places
from spotune.store.base import LimitReached, LineFull

logger = logging.getLogger(__name__)

MOST_TRIES = 10
"""A version conflict means that somebody else moved the job on: so many in a row are a fault."""


def apply(
    here: Installation, job_id: str, event: Event, known: JobRecord | None = None, *, beyond_quota: bool = False
) -> JobRecord | None:
    """Let an event happen to a job; the job as it is then, or None where there is no such job.

    Where a monthly limit refuses a reservation, or a line has no place, the event is decided again knowing that, so
    that whatever else it brings (an attempt's end and its bill) is kept.

    Args:
        known: the job as it was just read, which spares a read. What it gives is kept only if it is still true: the
            commit is guarded by its version, and that nothing changes is never concluded from it.
        beyond_quota: order an attempt although the quota, as last fetched, is used up; SageMaker has the last word.

    Raises:
        Unavailable: the record kept changing under us.
    """
    no_funds = full_line = ""
    for _ in range(MOST_TRIES):
        job = known or here.store.find_job(job_id)
        if job is None:
            return None
        know_job(job, _training_job_of(event))
        decision = decide(job, event, here.clock(), no_funds=no_funds, full_line=full_line)
        if decision is None and job is known:
            known = None
            continue
        if decision is None:
            return job
        try:
            limit, room = here.settings.monthly_limit, places(here, decision, beyond_quota=beyond_quota)
            entries = here.store.commit(job, decision, limit=limit, places=room)
        except VersionConflict:
            known = None
            continue
        except LimitReached as reached:
            no_funds = limit_message(reached)
            continue
        except LineFull as full:
            full_line = full.line
            continue
        # A process killed before this line loses figures, and no job: they are sent once, or not at all.
        here.metrics.send(measure_decision(job, decision))
        logger.info("%s: %s, now %s", event.kind, job.state, decision.job.state)
        queue_commands(here, entries)
        return decision.job
    raise Unavailable(f"Job {job_id} is being changed by others.", code="contention", remedy="Try the same call again.")


def queue_commands(here: Installation, entries: Iterable[OutboxEntry]) -> None:
    """Send commands to the queue. A queue that does not answer costs time, not the command."""
    for entry in entries:
        attempt = _attempt_of(entry)
        # Tenant and attempt are for the log of a delivery that cannot read the job; the record alone decides.
        message = {"job_id": entry.job_id, "entry_id": entry.id, "tenant": entry.tenant, "attempt": attempt}
        with about(job=entry.job_id, tenant=entry.tenant, attempt=attempt):
            try:
                here.queue.send(message)
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


def _training_job_of(event: Event) -> str:
    return event.name if isinstance(event, AttemptAccepted | AttemptRefused | TrainingObserved) else ""


def _attempt_of(entry: OutboxEntry) -> int | None:
    match entry.command:
        case StartAttempt(number=number):
            return number
        case StopAttempt(name=name):
            return attempt_number(name)
    return None
