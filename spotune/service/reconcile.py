"""Repairs what an event missed: commands left in the outbox, training jobs not looked at, waits that are over."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from zlib import crc32

from spotune.contracts.base import Seconds, Timestamp
from spotune.contracts.commands import CarryCheckpoint, CheckDataset, OutboxEntry, StartAttempt
from spotune.contracts.events import Refused, RungDue
from spotune.contracts.job import ActiveJob, Attempt, JobError, JobRecord
from spotune.contracts.measures import Measurement
from spotune.contracts.subject import know_job
from spotune.lifecycle import measure_pass, waits_since
from spotune.service.apart import PASS, apart, by_turns
from spotune.service.installation import Installation
from spotune.service.jobs.changes import apply, queue_commands
from spotune.service.jobs.counts import correct_counts
from spotune.service.jobs.observation import observe
from spotune.service.jobs.orphans import find_orphans
from spotune.service.jobs.pruning import prune_checkpoints
from spotune.service.models.news import settle_all
from spotune.service.retraining.due import call_rules
from spotune.service.turns import call_in_turn

logger = logging.getLogger(__name__)

COMMAND_AGE: Seconds = 60
"""A command older than this was not run by the delivery that its commit queued."""
CHECK_DELIVERY: Seconds = 960
"""A check of files that was begun is over by then: the launch function's time limit, and a minute."""
BEGINNING: Seconds = 28
"""Of a pass: whatever may wait for a service that hangs begins within it, and is given up within the function's 55."""
LOOKING: Seconds = 18
"""Of a pass at most, for looks at jobs."""
OTHERS: Seconds = 10
"""Of a pass at most, for each of the other parts."""
HURRY: Seconds = 600
"""So long a command is queued again in every pass, and then in one of ten: a queue that is merely long, or a command
that always fails, is not to drown in copies."""
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
    """What one pass, or a part of it, did."""

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
    parts_failed: int = 0
    """Parts that an exception ended, jobs and models among them; each is logged."""

    def __add__(self, other: Repairs) -> Repairs:
        return Repairs(*(mine + its for mine, its in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True, slots=True)
class _Part:
    """What may wait for a service that hangs."""

    name: str
    seconds: Seconds
    """Of a pass at most; what waits then is waited for."""
    work: Callable[[Callable[[], bool]], Repairs]
    """It is told whom to ask whether there is more time."""


def reconcile(here: Installation) -> Repairs:
    """One pass over everything that is not finished. Reads grow with that alone.

    Each part runs whatever became of those before it: one that fails is logged, and tried again by the next pass. What
    the table alone has to answer comes first. Of the others each pass begins with another one: one that takes all the
    time costs the others a few minutes, and not their turn for ever.
    """
    began, waits = here.clock(), dict[str, Timestamp]()
    outbox = apart("the outbox", partial(_queue_lost_commands, here))
    queued, oldest = outbox or (0, None)
    active = _open_jobs(here)
    repairs = Repairs(commands_queued=queued, jobs_seen=len(active or ()), parts_failed=int(outbox is None))
    if active is not None:
        repairs += _done("the lines", lambda: Repairs(jobs_called=call_in_turn(here, active)))
        repairs += _done("the counts", lambda: Repairs(counts_corrected=correct_counts(here, active)))
    parts = (
        _Part("the jobs", LOOKING, partial(_look_at_all, here, active or (), waits)),
        _Part("orphans", OTHERS, partial(_find_orphans, here)),
        _Part("the rules", OTHERS, partial(_call_rules, here)),
        _Part("the models", OTHERS, partial(_settle_models, here)),
        _Part("superseded checkpoints", OTHERS, partial(_prune_all, here, active or ())),
    )
    for part in by_turns("parts", parts, began):
        until = min(here.clock() + part.seconds, began + BEGINNING)
        repairs += _done(part.name, partial(part.work, partial(_is_before, here, until)))
    here.metrics.send((*_of(repairs), *measure_pass(active or (), waits, oldest, here.clock())))
    return repairs


def _done(what: str, work: Callable[[], Repairs]) -> Repairs:
    return apart(what, work) or Repairs(parts_failed=1)


def _is_before(here: Installation, until: Timestamp) -> bool:
    return here.clock() <= until


def _look_at_all(
    here: Installation, active: Sequence[ActiveJob], waits: dict[str, Timestamp], more_time: Callable[[], bool]
) -> Repairs:
    """What became of each job that was due, as far as time allows: each pass begins with another one."""
    due = [job for job in active if here.clock() >= job.idle_until]
    seen: list[bool | None] = []
    for job in by_turns("jobs", due, here.clock()):
        if not more_time():
            logger.warning("%d jobs are left to the next pass", len(due) - len(seen))
            break
        look = partial(_look, here, job.id, waits)
        seen.append(apart(f"job {job.id}", look, job=job.id, tenant=job.tenant))
    failed = seen.count(None)
    return Repairs(jobs_changed=seen.count(True), jobs_failed=failed, parts_failed=failed)


def _find_orphans(here: Installation, more_time: Callable[[], bool]) -> Repairs:
    """By a list of its own: jobs were changed since."""
    found = find_orphans(here, here.store.active_jobs(), more_time)
    return Repairs(orphans_adopted=found.adopted, orphans_stopped=found.stopped)


def _call_rules(here: Installation, more_time: Callable[[], bool]) -> Repairs:
    return Repairs(rules_called=call_rules(here, more_time))


def _settle_models(here: Installation, more_time: Callable[[], bool]) -> Repairs:
    settled = settle_all(here, more_time)
    return Repairs(models_settled=settled.done, parts_failed=settled.failed)


def _prune_all(here: Installation, active: Sequence[ActiveJob], more_time: Callable[[], bool]) -> Repairs:
    """Of the jobs that run, as far as time allows: each pass begins with another one."""
    failed = 0
    for one in by_turns("checkpoints", [job for job in active if job.live], here.clock()):
        if not more_time():
            logger.warning("superseded checkpoints are left to the next pass")
            break
        pruned = apart(
            "superseded checkpoints", partial(_prune, here, one.id, more_time), job=one.id, tenant=one.tenant
        )
        failed += pruned is None
    return Repairs(parts_failed=failed)


def _prune(here: Installation, job_id: str, more_time: Callable[[], bool]) -> bool:
    job = here.store.find_job(job_id)
    if job is not None and any(attempt.live for attempt in job.attempts):
        prune_checkpoints(here, job, more_time)
    return True


def _open_jobs(here: Installation) -> tuple[ActiveJob, ...] | None:
    """None where the list cannot be read: what counts by it waits for the next pass, the outbox does not."""
    return apart("the list of open jobs", lambda: tuple(here.store.active_jobs()))


def _of(repairs: Repairs) -> tuple[Measurement, ...]:
    return (
        Measurement("ReconcilerPasses", 1),
        Measurement("PartsFailed", repairs.parts_failed),
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
