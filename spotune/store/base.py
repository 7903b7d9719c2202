"""What every store can do. `dynamo.py` keeps it in DynamoDB, `memory.py` in a dict; one contract suite holds both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from spotune.contracts.audit import AuditRecord
from spotune.contracts.base import MicroUSD, Timestamp
from spotune.contracts.commands import OutboxEntry
from spotune.contracts.files import FileRecord
from spotune.contracts.history import FinishedRun
from spotune.contracts.identity import ApiKey, TenantLedger
from spotune.contracts.job import ActiveJob, Decision, JobRecord, LogEvent, Status
from spotune.contracts.lines import LineState, Tally
from spotune.contracts.notifications import WebhookEndpoint
from spotune.store.models import ModelStore
from spotune.store.page import Page
from spotune.store.retraining import RetrainingStore

NO_LIMITS: Mapping[str, int] = {}


class LimitReached(Exception):
    """The monthly limit of the tenant, or of the key, does not allow the reservation. Nothing was written."""

    def __init__(self, ledger: TenantLedger) -> None:
        super().__init__(f"limit of {ledger.tenant} for {ledger.month} reached")
        self.ledger = ledger


class LedgerImbalance(Exception):
    """A decision would release more than is reserved: a fault in the decision, never shown to a person.

    Nothing was written.
    """

    def __init__(self, ledger: TenantLedger, release: MicroUSD) -> None:
        super().__init__(f"cannot release {release}: {ledger.tenant} has {ledger.reserved} reserved in {ledger.month}")
        self.ledger = ledger
        self.release = release


class LineFull(Exception):
    """A line has no place for what a decision would take from it, or others stand in it. Nothing was written."""

    def __init__(self, state: LineState) -> None:
        super().__init__(f"{state.line}: {state.held} held, {state.waiting} waiting")
        self.line = state.line


class NoticeStore(Protocol):
    """What notifications need: where tenants want them, and which warnings were told."""

    def create_webhook(self, endpoint: WebhookEndpoint) -> None:
        """Keep a new endpoint."""

    def replace_webhook(self, endpoint: WebhookEndpoint) -> bool:
        """Keep an endpoint's changed record; False, and nothing is kept, where it was deleted meanwhile."""

    def get_webhook(self, tenant: str, endpoint_id: str) -> WebhookEndpoint | None:
        """One endpoint, read consistently."""

    def list_webhooks(self, tenant: str) -> tuple[WebhookEndpoint, ...]:
        """All endpoints of a tenant, newest first, read consistently."""

    def delete_webhook(self, tenant: str, endpoint_id: str) -> bool:
        """Forget an endpoint; False where there was none."""

    def told_level(self, tenant: str, month: str, key: str = "") -> int:
        """The highest level, in per cent, that the tenant was warned of in this month; 0 where none.

        Args:
            key: of the own limit of this key, instead of the tenant's.
        """

    def note_told_level(self, tenant: str, month: str, level: int, key: str = "") -> None:
        """Remember that this level was told. A lower one than is known changes nothing."""


class AuditStore(Protocol):
    """Who changed what, for a tenant's admins to read."""

    def begin_audit(self, record: AuditRecord) -> None:
        """Keep a record that has no end yet. What is there already is never replaced.

        Raises:
            Unavailable: the store does not answer, and whether it was written is not known; or there is another record
                of this id.
        """

    def end_audit(self, record: AuditRecord) -> None:
        """Write the end of a record that was begun, once, and without waiting long: its call is done.

        Raises:
            Unavailable: the store does not answer at once, and whether it was written is not known; or the record is
                not as it was begun.
        """

    def list_audit(self, tenant: str, *, after: str | None, limit: int) -> Page[AuditRecord]:
        """A tenant's records, newest first, older than the one with this id, read consistently.

        Raises:
            RequestRefused: the tenant has no such record (code `unknown_cursor`).
        """


class Store(AuditStore, ModelStore, NoticeStore, RetrainingStore, Protocol):
    """Money: a reservation adds to `reserved`, a release takes off it, a settlement adds to `billed`. An attempt is
    settled by one decision that releases what was reserved for it and settles what was billed. A decision that
    reserves is refused where `reserved + billed` would end above the limit; one that only settles never is, since
    that money is spent. A job whose key has a monthly limit moves the key's ledger along with the tenant's.

    Lines: a decision that takes places of a line is refused where it would then hold more than `places` says, or where
    jobs stand in it and this one was not called. Whatever gives back never is.

    Tenant-scoped reads return None (or an empty page) for another tenant's things, as for missing ones."""

    def put_key(self, key: ApiKey) -> None:
        """Keep an API key's hash, or replace it. A revoked one stays so; a principal may be mapped anew."""

    def find_key(self, sha256: str) -> ApiKey | None:
        """The key with this hash."""

    def list_keys(self, tenant: str) -> tuple[tuple[ApiKey, Timestamp | None], ...]:
        """The tenant's keys, newest first, each with its last use that was noted. May lag by moments."""

    def note_use(self, key: ApiKey, at: Timestamp) -> None:
        """Remember that a key was used. Apart from the key, so that it cannot undo a revocation."""

    def count_request(self, key: ApiKey, until: int, *, limit: int) -> int | None:
        """Count a request of a key in the window of time that ends at `until`; how many it has now, with this one.

        None where it had `limit` already; then nothing was counted. Exact among any number of callers, but for a call
        whose answer was lost: that one may be counted twice. Windows are forgotten some time after they have ended.

        Raises:
            Unavailable: the store does not answer; whether it was counted is not known.
        """

    def put_file(self, record: FileRecord) -> None:
        """Write or replace a file's record. Raises `ValueError` where its id is another tenant's."""

    def get_file(self, tenant: str, file_id: str) -> FileRecord | None:
        """One file's record."""

    def list_files(self, tenant: str, *, after: str | None, limit: int, ascending: bool = False) -> Page[FileRecord]:
        """Files by creation time, newest first unless `ascending`, after the file with this id.

        Raises:
            RequestRefused: the tenant has no file of this id (code `unknown_cursor`).
        """

    def delete_file(self, tenant: str, file_id: str) -> bool:
        """Forget a file's record; False where there was none."""

    def create_job(
        self, decision: Decision, *, limit: MicroUSD, places: Mapping[str, int] = NO_LIMITS
    ) -> tuple[OutboxEntry, ...]:
        """Write a new job (version 1), its log, its commands, its run, its reservation and places, all or nothing.

        Args:
            limit: the tenant's, for the month.
            places: how many each line has; one that is not named has no limit.

        Raises:
            VersionConflict: a job with this id exists.
            LimitReached: the tenant's month would exceed `limit`, or the key's its own.
            LineFull: a line has no place for it.
            LedgerImbalance: more is released than is reserved.
            TooLarge: a record does not fit into the store; nothing was written.
            Unavailable: the store does not answer; whether it was written is not known, and saying it again is safe.
            ValueError: the log does not continue at the job's `event_seq`, or the job changed its identity.
        """

    def commit(
        self, before: JobRecord, decision: Decision, *, limit: MicroUSD, places: Mapping[str, int] = NO_LIMITS
    ) -> tuple[OutboxEntry, ...]:
        """Replace `before` by `decision.job` (version + 1) with log, commands, run, money and places, all or nothing.

        Returns the outbox entries written, for the caller to run.

        Raises:
            VersionConflict: the stored version is not `before.version`.
            LimitReached: as above; only a change that reserves can raise it.
            LineFull: as above; only a change that takes more than it gives back can raise it.
            LedgerImbalance, TooLarge, Unavailable, ValueError: as above.
        """

    def get_job(self, tenant: str, job_id: str) -> JobRecord | None:
        """One job, read consistently."""

    def find_job(self, job_id: str) -> JobRecord | None:
        """One job whatever its tenant: for the control plane's own events only, never for a person's request."""

    def list_jobs(self, tenant: str, *, after: str | None, limit: int, status: Status | None = None) -> Page[JobRecord]:
        """Jobs by creation time, newest first, after the job with this id; with `status` those alone that have it.

        Raises:
            RequestRefused: the tenant has no job of this id (code `unknown_cursor`).
        """

    def list_log(self, tenant: str, job_id: str, *, after: int, limit: int) -> Page[LogEvent]:
        """A job's log, newest first; `after` is a sequence number, 0 for the newest."""

    def active_jobs(self) -> Iterator[ActiveJob]:
        """The jobs of all tenants to which something may still happen, oldest first. Reads grow with them alone.

        May lag behind the last commits by moments.
        """

    def pending_commands(self, created_before: Timestamp) -> Iterator[OutboxEntry]:
        """Outbox entries of before this moment, oldest first. May lag behind the last commits by moments."""

    def get_command(self, job_id: str, entry_id: str) -> OutboxEntry | None:
        """An outbox entry that is not yet done."""

    def complete_command(self, entry: OutboxEntry) -> None:
        """Take an entry off the outbox; a second time does nothing."""

    def list_runs(self, tenant: str, *, after: str | None, limit: int) -> Page[FinishedRun]:
        """Finished runs by their jobs' creation time, newest first, after the one of the job with this id.

        Raises:
            RequestRefused: the tenant has no run of this id (code `unknown_cursor`).
        """

    def recent_runs(self, limit: int) -> Iterator[FinishedRun]:
        """The newest finished runs of all tenants, newest first: for what the planner learns, never shown to a person.

        May lag behind the last commits by moments.
        """

    def ledger(self, tenant: str, month: str, *, limit: MicroUSD, key: str = "") -> TenantLedger:
        """The money of the tenant, or of one of its keys, in a month; zeros where nothing was written; `limit` is shown
        as given."""

    def ledgers(self, month: str) -> Iterator[tuple[TenantLedger, Tally]]:
        """The ledgers of all tenants and keys in this month. May lag behind the last commits by moments."""

    def lines(self) -> Iterator[tuple[LineState, Tally]]:
        """All lines. May lag behind the last commits by moments."""

    def correct_ledger(self, ledger: TenantLedger, tally: Tally, reserved: MicroUSD) -> bool:
        """Set what a ledger has reserved; False where it was moved since it was read: then nothing is written."""

    def correct_line(self, line: LineState, tally: Tally, *, held: int, waiting: int) -> bool:
        """Set what a line counts; False where it was moved since it was read: then nothing is written."""
