"""How records are kept: their bodies, their order in time, and what a store refuses before it writes."""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from pydantic import ValidationError

from spotune.contracts.audit import AuditRecord
from spotune.contracts.base import Contract, Timestamp
from spotune.contracts.commands import OutboxEntry
from spotune.contracts.errors import RequestRefused, TooLarge, Unavailable
from spotune.contracts.files import FileRecord
from spotune.contracts.history import FinishedRun
from spotune.contracts.job import Decision, JobRecord, LogEvent
from spotune.contracts.notifications import WebhookEndpoint

C = TypeVar("C", bound=Contract)

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 390_000
"""DynamoDB takes items of 400 KB; the rest is left to keys and attribute names."""

MAX_CHANGE_RECORDS = 100
"""DynamoDB takes 100 items a transaction."""

COMPRESS_ABOVE_BYTES = 2_048
"""Writes are paid by the KB; below this a body stays readable in the console."""

MAX_ID_LENGTH = 200

_JSON_START = b"{"

_NEWER = frozenset({"extra_forbidden", "literal_error", "union_tag_invalid"})
"""What pydantic finds in a record of a newer version: a field, a word or a kind that there was not."""


@dataclass(frozen=True, slots=True)
class Change:
    """What one decision writes, checked."""

    job: JobRecord
    log: tuple[LogEvent, ...]
    entries: tuple[OutboxEntry, ...]
    run: FinishedRun | None


def change_of(before: JobRecord | None, decision: Decision) -> Change:
    """The records that a decision writes: the job with its next version, its log, its commands as outbox entries.

    Raises:
        ValueError: the log does not continue where it ended, or the job changed its identity.
        TooLarge: one transaction cannot hold so many records.
    """
    job = decision.job
    if not is_id(job.id):
        raise ValueError(f"no job can be called {job.id!r}")
    if before is not None and _identity(before) != _identity(job):
        raise ValueError(f"a decision on {_identity(before)} cannot write {_identity(job)}")
    start = before.event_seq if before is not None else 0
    expected = list(range(start + 1, job.event_seq + 1))
    if [event.sequence for event in decision.log] != expected or any(e.job_id != job.id for e in decision.log):
        raise ValueError(f"the log of {job.id} must go on from {start} to {job.event_seq} without a gap")
    job = job.with_(version=1 if before is None else before.version + 1)
    if decision.run is not None and (decision.run.id, decision.run.tenant) != (job.id, job.tenant):
        raise ValueError(f"a decision on {job.id} cannot keep the run of {decision.run.id}")
    change = Change(job, decision.log, _entries(job, decision), decision.run)
    # Beside them: the job, its run, two ledgers a month, and a line for each change.
    counted = 2 * len(decision.ledgers) + len(decision.lines)
    if len(change.log) + len(change.entries) + counted + 2 > MAX_CHANGE_RECORDS:
        raise TooLarge(f"one change of {job.id} has too many events and commands.", code="change_too_large")
    return change


def encode(record: Contract) -> bytes:
    """A record as JSON, compressed where it is long. NaN and infinity survive, as they do not in plain JSON.

    Raises:
        TooLarge: it is longer than a store's item (code `record_too_large`).
    """
    body = json.dumps(record.model_dump(mode="json"), separators=(",", ":")).encode()
    if len(body) > COMPRESS_ABOVE_BYTES:
        body = zlib.compress(body)
    if len(body) > MAX_BODY_BYTES:
        raise TooLarge(
            f"this {type(record).__name__} takes {len(body):,} bytes where {MAX_BODY_BYTES:,} can be kept.",
            code="record_too_large",
            remedy="Make the request smaller: its metadata, or the number of generated examples.",
        )
    return body


def decode(model: type[C], body: bytes) -> C:
    """The record that `encode` made.

    Raises:
        Unavailable: a newer version wrote what this one does not know. It is left alone, since writing it back would
            lose that: while an update goes on, and after one that failed, two versions share a table.
    """
    text = body if body.startswith(_JSON_START) else zlib.decompress(body)
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False)
        if any(fault["type"] not in _NEWER for fault in faults):
            raise
        unknown = ", ".join(sorted({".".join(map(str, fault["loc"])) for fault in faults}))
        raise Unavailable(
            f"A newer version of Spotune wrote this {model.__name__}; this one does not know {unknown}.",
            code="record_of_newer_version",
            remedy="Where an update is on its way, try again in a minute; else deploy the newer version again.",
        ) from error


def readable(model: type[C], bodies: Iterable[tuple[str, bytes]]) -> Iterator[C]:
    """The records that can be read: one that cannot is named in the log, and keeps nobody from the others."""
    for name, body in bodies:
        try:
            yield decode(model, body)
        except (ValidationError, Unavailable, zlib.error) as error:
            logger.error("%s cannot be read and is left out: %s", name, error)


def moment(at: Timestamp, record_id: str = "") -> str:
    """A text that sorts by time, then by id."""
    return f"{at:017.6f}#{record_id}"


def newest_first(endpoints: Iterable[WebhookEndpoint]) -> tuple[WebhookEndpoint, ...]:
    """A tenant's endpoints as they are listed."""
    return tuple(sorted(endpoints, key=lambda one: (-one.created_at, one.id)))


def is_id(value: str) -> bool:
    """False for what no record is called: such a thing is missing without asking the store."""
    return 0 < len(value) <= MAX_ID_LENGTH and value.isascii() and value.isprintable()


def unknown_cursor(after: str) -> RequestRefused:
    """The refusal of a cursor that names nothing of the tenant's."""
    return RequestRefused(
        f"nothing of yours is called {after[:MAX_ID_LENGTH]!r}.",
        code="unknown_cursor",
        param="after",
        remedy="Give the last id of the page before, or leave `after` out to start anew.",
    )


def owned_by_another(record: FileRecord) -> ValueError:
    """What writing over another tenant's file gets; ids are made by the service, so no person meets it."""
    return ValueError(f"file {record.id} belongs to another tenant than {record.tenant}")


def another_audit(record: AuditRecord) -> Unavailable:
    """What stands in the audit log is not what this process began; ids are random, so asking again helps."""
    return Unavailable(
        f"the audit log has another record than {record.id} as it was begun.",
        code="audit_record_differs",
        remedy="Try again.",
    )


def _identity(job: JobRecord) -> tuple[str, str, Timestamp]:
    return job.tenant, job.id, job.created_at


def _entries(job: JobRecord, decision: Decision) -> tuple[OutboxEntry, ...]:
    return tuple(
        OutboxEntry(
            id=f"{job.id}#{job.version}#{index}",
            tenant=job.tenant,
            job_id=job.id,
            created_at=job.updated_at,
            command=command,
        )
        for index, command in enumerate(decision.commands)
    )
