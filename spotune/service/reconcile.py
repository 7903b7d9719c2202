"""Repairs what an event missed: commands left in the outbox, training jobs not looked at, waits that are over."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from zlib import crc32

from spotune.contracts.base import Seconds, Timestamp
from spotune.contracts.commands import CarryCheckpoint, CheckDataset, OutboxEntry, StartAttempt
from spotune.contracts.events import Refused, RungDue
from spotune.contracts.job import ActiveJob, Attempt, JobError, JobRecord
from spotune.contracts.measures import Measurement
from spotune.contracts.subject import know_job
from spotune.lifecycle import measure_pass, waits_since
from spotune.service.apart import apart
from spotune.service.installation import Installation
from spotune.service.jobs.changes import apply, queue_commands
from spotune.service.jobs.counts import correct_counts
from spotune.service.jobs.observation import observe
from spotune.service.jobs.orphans import Orphans, find_orphans
from spotune.service.jobs.pruning import RESTORING, prune_checkpoints
from spotune.service.models.news import Settled, settle_all
from spotune.service.retraining.due import call_rules
from spotune.service.turns import call_in_turn

logger = logging.getLogger(__name__)

COMMAND_AGE: Seconds = 60
"""A command older than this was not run by the delivery that its commit queued."""
CHECK_DELIVERY: Seconds = 960
"""A check of files that was begun is over by then: the launch function's time limit, and a minute."""
LOOKING: Seconds = 30
"""Of a pass at most, out of the function's 55 seconds: lines, orphans and counts have the rest."""
HURRY: Seconds = 600
"""So long a command is queued again in every pass, and then in one of ten: a queue that is merely long, or a command
that always fails, is not to drown in copies."""
PASS: Seconds = 60
"""Between two passes: a check of files is queued again in one of them only."""
CHECK_LIMIT: Seconds = 5400
"""A check of files that has not ended so long after its first delivery never will: deliveries were cut off one after
another. What waits in the queue before that does not count."""
RETRY_AFTER: Seconds = 300
"""How long a job that stands in no line waits before it is ordered again."""

_CHECK_TIMED_OUT = JobError(
    code="check_timed_out",
    message=f"The job's files could not be checked within {CHECK_LIMIT} s.",
    param="training_file",
    remedy="Split the file, or check it where it lies with spotune data check and submit a part of it.",
)


@dataclass(frozen=True, slots=True)
class Repairs:
    """What one pass did."""

    commands_queued: int = 0
    jobs_seen: int = 0
    jobs_changed: int = 0
    jobs_called: int = 0
    """Jobs whose turn in line came."""
    jobs_failed: int = 0
    """Jobs that could not be looked at now; the next pass tries again."""
    orphans_adopted: int = 0
    orphans_stopped: int = 0
    counts_corrected: int = 0
    """Ledgers and lines that were not the sums of their jobs."""
    models_settled: int = 0
    """Model versions of which the outside was still to be told."""
    rules_called: int = 0
    """Rules for which there is something to do."""


def reconcile(here: Installation) -> Repairs:
    """One pass over everything that is not finished. Reads grow with that alone.

    Each part runs whatever became of those before it: one that fails is logged, and tried again by the next pass.
    """
    waits: dict[str, Timestamp] = {}
    outbox = apart("the outbox", partial(_queue_lost_commands, here))
    changed = _look_at_all(here, waits)
    active = _open_jobs(here)
    called = orphans = corrected = None
    if active is not None:
        called = apart("the lines", partial(call_in_turn, here, active))
        orphans = apart("orphans", partial(find_orphans, here, active))
        corrected = apart("the counts", partial(correct_counts, here, active))
    rules = apart("the rules", partial(call_rules, here))
    models = apart("the models", partial(settle_all, here))
    settled = models or Settled()
    found, (queued, oldest) = orphans or Orphans(), outbox or (0, None)
    repairs = Repairs(
        commands_queued=queued,
        jobs_seen=len(active or ()),
        jobs_changed=sum(bool(one) for one in changed),
        jobs_called=called or 0,
        jobs_failed=changed.count(None),
        orphans_adopted=found.adopted,
        orphans_stopped=found.stopped,
        counts_corrected=corrected or 0,
        models_settled=settled.done,
        rules_called=rules or 0,
    )
    failed = [outbox, *changed, called, orphans, corrected, rules, models].count(None) + settled.failed
    here.metrics.send((*_of(repairs, failed), *measure_pass(active or (), waits, oldest, here.clock())))
    return repairs


def _look_at_all(here: Installation, waits: dict[str, Timestamp]) -> list[bool | None]:
    """What became of each job that was due, as far as time allows: each pass begins with another one.

    So jobs of a region that hangs cost the others a minute, and not their turn for ever.
    """
    due = [job for job in _open_jobs(here) or () if here.clock() >= job.idle_until]
    began = here.clock()
    first = int(began // PASS) % max(len(due), 1)
    seen: list[bool | None] = []
    for job in due[first:] + due[:first]:
        if here.clock() - began > LOOKING:
            logger.warning("%d jobs are left to the next pass", len(due) - len(seen))
            break
        look = partial(_look, here, job.id, waits)
        seen.append(apart(f"job {job.id}", look, job=job.id, tenant=job.tenant))
    return seen


def _open_jobs(here: Installation) -> tuple[ActiveJob, ...] | None:
    """None where the list cannot be read: what counts by it waits for the next pass, the outbox does not."""
    return apart("the list of open jobs", lambda: tuple(here.store.active_jobs()))


def _of(repairs: Repairs, failed: int) -> tuple[Measurement, ...]:
    return (
        Measurement("ReconcilerPasses", 1),
        Measurement("PartsFailed", failed),
        Measurement("Repairs", repairs.commands_queued, "commands_queued"),
        Measurement("Repairs", repairs.jobs_changed, "jobs_changed"),
        Measurement("Repairs", repairs.orphans_adopted, "orphans_adopted"),
        Measurement("Repairs", repairs.orphans_stopped, "orphans_stopped"),
        Measurement("Repairs", repairs.counts_corrected, "counts_corrected"),
    )


def _queue_lost_commands(here: Installation) -> tuple[int, Timestamp | None]:
    """How many were queued again, and when the oldest that is due was made."""
    pending = tuple(here.store.pending_commands(here.clock() - COMMAND_AGE))
    stale = [entry for entry in pending if _is_lost(here, entry)]
    queue_commands(here, stale)
    return len(stale), min((entry.created_at for entry in pending), default=None)


def _is_lost(here: Installation, entry: OutboxEntry) -> bool:
    """True where no delivery can be at work on a command: reading or copying a large file takes one many minutes."""
    age = here.clock() - entry.created_at
    if _takes_long(here, entry):
        return COMMAND_AGE <= age % CHECK_DELIVERY < COMMAND_AGE + PASS
    return age < HURRY or _has_its_minute(here, entry)


def _has_its_minute(here: Installation, entry: OutboxEntry) -> bool:
    """True in one minute of ten, another one for each command, whenever passes come."""
    minute = int(here.clock() // PASS)
    return crc32(f"{entry.id} {minute}".encode()) % (HURRY // PASS) == 0


def _takes_long(here: Installation, entry: OutboxEntry) -> bool:
    """True for a check of files, and for what copies a checkpoint: a retry's first start, or its wait for one."""
    match entry.command:
        case CheckDataset() | CarryCheckpoint():
            return True
        case StartAttempt(number=1):
            job = here.store.find_job(entry.job_id)
            return job is not None and job.goes_on
    return False


def _look(here: Installation, job_id: str, waits: dict[str, Timestamp]) -> bool:
    """Whether the job changed; `waits` is told since when it waits, which its place in the index does not say."""
    before = here.store.find_job(job_id)
    if before is None or not before.open:
        return False
    know_job(before)
    waits[job_id] = waits_since(before)
    for attempt in before.attempts:
        if attempt.live:
            now = observe(here, attempt.name)
            _stop_again(here, attempt, now)
            if now is not None and now.attempts[attempt.number - 1].secondary_status not in RESTORING:
                apart("superseded checkpoints", partial(prune_checkpoints, here, now))
    begun = before.check_begun_at if before.state == "validating" else None
    if begun is not None and here.clock() - begun > CHECK_LIMIT:
        apply(here, job_id, Refused(error=_CHECK_TIMED_OUT))
    if _may_be_due(here, before):
        apply(here, job_id, RungDue())
    after = here.store.find_job(job_id)
    return after is not None and after.version != before.version


def _stop_again(here: Installation, before: Attempt, job: JobRecord | None) -> None:
    """A stop that was asked for before this pass, and of which SageMaker shows nothing, did not take."""
    now = next((one for one in job.attempts if one.name == before.name), None) if job is not None else None
    if job is not None and now is not None and before.stop_asked and now.live and now.status in ("", "InProgress"):
        here.place(job.region).training_jobs.stop(now.name)


def _may_be_due(here: Installation, job: JobRecord) -> bool:
    waiting = job.state == "queued" and not job.line and here.clock() - job.updated_at > RETRY_AFTER
    return waiting or bool(job.line) or job.state in ("starting", "interrupted")
