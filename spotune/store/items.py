"""Items and keys of the table: the one place that spells them. See docs/store.md.

Items are in the client's own form (`{"S": "text"}`). Every item has `pk`, `sk`, `tenant` and, but for what only counts,
the record as `body`; jobs have `version`, and `writer`, the token of the transaction that wrote them last.
"""

from __future__ import annotations

from typing import Any, TypeVar

from spotune.contracts.audit import AuditRecord
from spotune.contracts.base import Contract, MicroUSD, Timestamp
from spotune.contracts.commands import OutboxEntry
from spotune.contracts.files import FileRecord
from spotune.contracts.history import FinishedRun
from spotune.contracts.identity import ApiKey, TenantLedger
from spotune.contracts.job import STATUS, ActiveJob, JobRecord, LogEvent, Status, active_job
from spotune.contracts.lines import LineState, Tally
from spotune.contracts.notifications import WebhookEndpoint
from spotune.store.records import decode, encode, moment

C = TypeVar("C", bound=Contract)

Item = dict[str, dict[str, Any]]

BY_TENANT = "gsi1"
"""A tenant's jobs, files, finished runs and rules, and a rule's arrivals, by time."""

IN_FLIGHT = "gsi2"
"""Sparse: jobs in no terminal state, the outbox, finished runs of all tenants, ledgers by month, lines, rules that may
fire, and arrivals that nobody has looked into."""

BY_STATUS = "gsi3"
"""A tenant's jobs of one status, rules of one bucket, and a rule's arrivals in one state, by time."""

ACTIVE = "ACTIVE"
OUTBOX = "OUTBOX"
RUNS = "RUNS"
LINES = "LINES"

LAST_SEQUENCE = 9_999_999_999

WINDOW_KEPT_SECONDS = 3600
"""After its end a window of counted requests is left to the table's time to live: late clocks still find it."""


REVOKED_KEPT_SECONDS = 90 * 86_400
"""A key is listed so long after its revocation, and then forgotten: unknown keys open nothing either."""

AUDIT_KEPT_SECONDS = 400 * 86_400
"""Thirteen months: a year's audit has the whole year to look at."""

AFTER_EVERY_AUDIT = "audit-~"
"""Sorts after the id of any audit record."""


def text(value: str) -> dict[str, str]:
    """A string attribute."""
    return {"S": value}


def number(value: int) -> dict[str, str]:
    """A number attribute."""
    return {"N": str(value)}


def digits(sequence: int) -> str:
    """A number in a sort key: as text in the order of numbers."""
    return f"{min(max(sequence, 0), LAST_SEQUENCE):010d}"


def key_key(sha256: str) -> Item:
    """An API key's key."""
    return {"pk": text(f"KEY#{sha256}"), "sk": text("KEY")}


def file_key(file_id: str) -> Item:
    """A file's key."""
    return {"pk": text(f"FILE#{file_id}"), "sk": text("FILE")}


def job_key(job_id: str) -> Item:
    """A job's key. Its log and its outbox entries share the partition."""
    return {"pk": text(f"JOB#{job_id}"), "sk": text("JOB")}


def log_key(job_id: str, sequence: int) -> Item:
    """A log event's key."""
    return {"pk": text(f"JOB#{job_id}"), "sk": text(f"LOG#{digits(sequence)}")}


def entry_key(job_id: str, entry_id: str) -> Item:
    """An outbox entry's key."""
    return {"pk": text(f"JOB#{job_id}"), "sk": text(f"OUTBOX#{entry_id}")}


def run_key(job_id: str) -> Item:
    """The key of a job's forecast and outcome."""
    return {"pk": text(f"JOB#{job_id}"), "sk": text("RUN")}


def ledger_key(tenant: str, month: str, key: str = "") -> Item:
    """The key of a tenant's month, or of one of its keys'."""
    return {"pk": text(f"LEDGER#{tenant}"), "sk": text(f"{month}#{key}" if key else month)}


def ledgers_of(month: str) -> str:
    """`gsi2pk` of a month's ledgers."""
    return f"LEDGERS#{month}"


def line_key(line: str) -> Item:
    """A line's key."""
    return {"pk": text(f"LINE#{line}"), "sk": text("LINE")}


def webhook_key(tenant: str, endpoint_id: str) -> Item:
    """A webhook endpoint's key. All of a tenant's share a partition."""
    return {"pk": text(f"WEBHOOKS#{tenant}"), "sk": text(endpoint_id)}


def told_key(tenant: str, month: str, key: str = "") -> Item:
    """The key of the highest warning that was told of a tenant's month, or of one of its keys'."""
    return {"pk": text(f"TOLD#{tenant}"), "sk": text(f"{month}#{key}" if key else month)}


def audit_key(tenant: str, record_id: str) -> Item:
    """An audit record's key. Ids sort by time."""
    return {"pk": text(f"AUDIT#{tenant}"), "sk": text(record_id)}


def jobs_of(tenant: str, status: Status | None = None) -> str:
    """`gsi1pk` of a tenant's jobs; `gsi3pk` of those of one status."""
    return f"JOBS#{tenant}" if status is None else f"JOBS#{tenant}#{status}"


def files_of(tenant: str) -> str:
    """`gsi1pk` of a tenant's files."""
    return f"FILES#{tenant}"


def runs_of(tenant: str) -> str:
    """`gsi1pk` of a tenant's finished runs."""
    return f"RUNS#{tenant}"


def keys_of(tenant: str) -> str:
    """`gsi1pk` of a tenant's API keys."""
    return f"KEYS#{tenant}"


def uses_of(tenant: str) -> str:
    """`gsi1pk` of the last uses of a tenant's API keys."""
    return f"USES#{tenant}"


NOT_REVOKED = "attribute_not_exists(expires_at)"
"""Condition of a put of an API key: nothing but a revoked one expires."""


def key_item(key: ApiKey) -> Item:
    """An API key. The table's time to live takes a revoked one away."""
    listed = indexed("gsi1", keys_of(key.tenant), key.created_at, key.sha256)
    item = key_key(key.sha256) | content(key, key.tenant) | listed
    if key.revoked_at is None:
        return item
    return item | {"expires_at": number(int(key.revoked_at) + REVOKED_KEPT_SECONDS)}


def use_key(sha256: str) -> Item:
    """The key of an API key's last use."""
    return {"pk": text(f"KEY#{sha256}"), "sk": text("USED")}


def use_item(key: ApiKey, at: Timestamp) -> Item:
    """When an API key was used."""
    listed = {"gsi1pk": text(uses_of(key.tenant)), "gsi1sk": text(key.sha256)}
    return use_key(key.sha256) | {"tenant": text(key.tenant), "used_at": number(int(at))} | listed


def window_key(sha256: str, until: int) -> Item:
    """The key of an API key's requests in the window that ends then."""
    return {"pk": text(f"KEY#{sha256}"), "sk": text(f"RATE#{until}")}


def webhook_item(endpoint: WebhookEndpoint) -> Item:
    """A webhook endpoint, without a secret."""
    return webhook_key(endpoint.tenant, endpoint.id) | content(endpoint, endpoint.tenant)


def audit_item(record: AuditRecord) -> Item:
    """A line of a tenant's audit log. The table's time to live takes it away."""
    kept = {"expires_at": number(int(record.at) + AUDIT_KEPT_SECONDS)}
    return audit_key(record.tenant, record.id) | content(record, record.tenant) | kept


def file_item(record: FileRecord) -> Item:
    """A file's record."""
    listed = indexed("gsi1", files_of(record.tenant), record.created_at, record.id)
    return file_key(record.id) | content(record, record.tenant) | listed


def job_item(job: JobRecord, writer: str) -> Item:
    """A job; in `gsi2` as long as anything can happen to it."""
    item = job_key(job.id) | content(job, job.tenant) | indexed("gsi1", jobs_of(job.tenant), job.created_at, job.id)
    item |= indexed("gsi3", jobs_of(job.tenant, STATUS[job.state]), job.created_at, job.id)
    item |= {"version": number(job.version), "writer": text(writer)}
    if not job.open:
        return item
    summary = active_job(job).model_dump_json(exclude_defaults=True)
    return item | {"active": text(summary)} | indexed("gsi2", ACTIVE, job.created_at, job.id)


def active_of(item: Item) -> ActiveJob:
    """What the reconciler has to know of a job, from its item."""
    return decode(ActiveJob, item["active"]["S"].encode())


def log_item(event: LogEvent, tenant: str) -> Item:
    """A line of a job's log."""
    return log_key(event.job_id, event.sequence) | content(event, tenant)


def entry_item(entry: OutboxEntry) -> Item:
    """A command that is not yet done."""
    queued = indexed("gsi2", OUTBOX, entry.created_at, entry.id)
    return entry_key(entry.job_id, entry.id) | content(entry, entry.tenant) | queued


def run_item(run: FinishedRun) -> Item:
    """A finished job's forecast and outcome."""
    listed = indexed("gsi1", runs_of(run.tenant), run.created_at, run.id)
    return run_key(run.id) | content(run, run.tenant) | listed | indexed("gsi2", RUNS, run.created_at, run.id)


def record_of(model: type[C], item: Item) -> C:
    """The record of an item."""
    return decode(model, body_of(item))


def body_of(item: Item) -> bytes:
    """The encoded record of an item."""
    body = item["body"]
    encoded: bytes = body["S"].encode() if "S" in body else body["B"]
    return encoded


def ledger_of(item: Item | None, tenant: str, month: str, limit: MicroUSD, key: str = "") -> TenantLedger:
    """A ledger item's amounts; zeros where there is none."""
    amounts = {name: int(item[name]["N"]) for name in ("reserved", "billed")} if item else {}
    return TenantLedger(tenant=tenant, month=month, key=key, limit=limit, **amounts)


def listed_ledger(item: Item) -> tuple[TenantLedger, Tally]:
    """A ledger as a list shows it; its limit is not in the item, and 0 here."""
    month, _, key = item["sk"]["S"].partition("#")
    return ledger_of(item, item["tenant"]["S"], month, 0, key), tally_of(item)


def line_of(item: Item | None, line: str) -> LineState:
    """A line's counts; zeros where there is none."""
    counts = {name: int(item[name]["N"]) for name in ("held", "waiting")} if item else {}
    return LineState(line=line, **counts)


def tally_of(item: Item) -> Tally:
    """When a count was moved last, and how often."""
    return Tally(changes=int(item["changes"]["N"]), changed_at=float(item["changed_at"]["N"]))


def content(record: Contract, tenant: str) -> Item:
    """What every record's item has: its tenant and its body."""
    body = encode(record)
    compressed = not body.startswith(b"{")
    return {"tenant": text(tenant), "body": {"B": body} if compressed else text(body.decode())}


def indexed(index: str, partition: str, at: Timestamp, record_id: str) -> Item:
    """A place in an index, by time."""
    return {f"{index}pk": text(partition), f"{index}sk": text(moment(at, record_id))}
