"""The store in one DynamoDB table. Keys and items are spelled in `items.py`, transactions in `transaction.py`.

Whatever guards a change or money is read consistently from the table or decided by DynamoDB inside the transaction.
The indexes only list: they may lag by moments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import islice

from spotune.contracts.base import MicroUSD, Timestamp
from spotune.contracts.commands import OutboxEntry
from spotune.contracts.files import FileRecord
from spotune.contracts.history import FinishedRun
from spotune.contracts.identity import ApiKey, TenantLedger
from spotune.contracts.job import ActiveJob, Decision, JobRecord, LogEvent, Status, active_job
from spotune.contracts.lines import LineState, Tally
from spotune.store import items
from spotune.store.base import NO_LIMITS
from spotune.store.counters import ledger_writes, line_writes
from spotune.store.decision import decision_writes
from spotune.store.dynamo_audit import DynamoAudit
from spotune.store.dynamo_models import DynamoModels
from spotune.store.dynamo_notices import DynamoNotices
from spotune.store.dynamo_retraining import DynamoRetraining
from spotune.store.items import Item, number, text
from spotune.store.page import Page, page_of
from spotune.store.records import change_of, is_id, owned_by_another, readable
from spotune.store.table import is_of
from spotune.store.transaction import ConditionFailed, call, new_token

MOST_KEYS = 1000
"""A tenant's that are listed."""


class DynamoStore(DynamoAudit, DynamoModels, DynamoNotices, DynamoRetraining):
    """Fulfils `spotune.store.base.Store`. Safe among threads, as the client is."""

    def put_key(self, key: ApiKey) -> None:
        """See `Store`."""
        anew = key.revoked_at is not None or key.principal is not None
        condition = {} if anew else {"ConditionExpression": items.NOT_REVOKED}
        with suppress(ConditionFailed):
            call(self._client.put_item, TableName=self._table, Item=items.key_item(key), **condition)

    def find_key(self, sha256: str) -> ApiKey | None:
        """See `Store`."""
        item = self._get(items.key_key(sha256)) if is_id(sha256) else None
        return None if item is None else items.record_of(ApiKey, item)

    def list_keys(self, tenant: str) -> tuple[tuple[ApiKey, Timestamp | None], ...]:
        """See `Store`."""
        found = self._listed(items.keys_of(tenant), None, MOST_KEYS, ascending=False)
        keys = [items.record_of(ApiKey, item) for item in found]
        noted = self._query(
            None,
            IndexName=items.BY_TENANT,
            KeyConditionExpression="gsi1pk = :partition",
            ExpressionAttributeValues={":partition": text(items.uses_of(tenant))},
        )
        uses = {item["gsi1sk"]["S"]: float(item["used_at"]["N"]) for item in noted}
        return tuple((key, uses.get(key.sha256)) for key in keys)

    def note_use(self, key: ApiKey, at: Timestamp) -> None:
        """See `Store`."""
        call(self._client.put_item, TableName=self._table, Item=items.use_item(key, at))

    def count_request(self, key: ApiKey, until: int, *, limit: int) -> int | None:
        """See `Store`."""
        try:
            counted = call(
                self._client.update_item,
                TableName=self._table,
                Key=items.window_key(key.sha256, until),
                UpdateExpression="ADD used :one SET tenant = :tenant, expires_at = :expires_at",
                ConditionExpression="attribute_not_exists(used) OR used < :limit",
                ExpressionAttributeValues={
                    ":one": number(1),
                    ":limit": number(limit),
                    ":tenant": text(key.tenant),
                    ":expires_at": number(until + items.WINDOW_KEPT_SECONDS),
                },
                ReturnValues="UPDATED_NEW",
            )
        except ConditionFailed:
            return None
        return int(counted["Attributes"]["used"]["N"])

    def put_file(self, record: FileRecord) -> None:
        """See `Store`."""
        try:
            call(
                self._client.put_item,
                TableName=self._table,
                Item=items.file_item(record),
                ConditionExpression="attribute_not_exists(pk) OR tenant = :tenant",
                ExpressionAttributeValues={":tenant": text(record.tenant)},
            )
        except ConditionFailed as error:
            raise owned_by_another(record) from error

    def get_file(self, tenant: str, file_id: str) -> FileRecord | None:
        """See `Store`."""
        item = self._get_owned(tenant, items.file_key, file_id)
        return None if item is None else items.record_of(FileRecord, item)

    def list_files(self, tenant: str, *, after: str | None, limit: int, ascending: bool = False) -> Page[FileRecord]:
        """See `Store`."""
        start = self._cursor(tenant, items.file_key, after)
        found = self._listed(items.files_of(tenant), start, limit, ascending=ascending)
        return page_of([items.record_of(FileRecord, item) for item in found], limit)

    def delete_file(self, tenant: str, file_id: str) -> bool:
        """See `Store`."""
        if not is_id(file_id):
            return False
        try:
            call(
                self._client.delete_item,
                TableName=self._table,
                Key=items.file_key(file_id),
                ConditionExpression="tenant = :tenant",
                ExpressionAttributeValues={":tenant": text(tenant)},
            )
        except ConditionFailed:
            return False
        return True

    def create_job(
        self, decision: Decision, *, limit: MicroUSD, places: Mapping[str, int] = NO_LIMITS
    ) -> tuple[OutboxEntry, ...]:
        """See `Store`."""
        return self._write(None, decision, limit, places)

    def commit(
        self, before: JobRecord, decision: Decision, *, limit: MicroUSD, places: Mapping[str, int] = NO_LIMITS
    ) -> tuple[OutboxEntry, ...]:
        """See `Store`."""
        return self._write(before, decision, limit, places)

    def get_job(self, tenant: str, job_id: str) -> JobRecord | None:
        """See `Store`."""
        item = self._get_owned(tenant, items.job_key, job_id)
        return None if item is None else items.record_of(JobRecord, item)

    def find_job(self, job_id: str) -> JobRecord | None:
        """See `Store`."""
        item = self._get(items.job_key(job_id)) if is_id(job_id) else None
        return None if item is None else items.record_of(JobRecord, item)

    def list_jobs(self, tenant: str, *, after: str | None, limit: int, status: Status | None = None) -> Page[JobRecord]:
        """See `Store`."""
        start = self._cursor(tenant, items.job_key, after)
        index = items.BY_TENANT if status is None else items.BY_STATUS
        found = self._listed(items.jobs_of(tenant, status), start, limit, ascending=False, index=index)
        return page_of([items.record_of(JobRecord, item) for item in found], limit)

    def list_log(self, tenant: str, job_id: str, *, after: int, limit: int) -> Page[LogEvent]:
        """See `Store`."""
        if not is_id(job_id):
            return Page((), has_more=False)
        found = self._newest_first(partial(items.log_key, job_id), after, limit)
        return page_of([items.record_of(LogEvent, item) for item in found if is_of(item, tenant)], limit)

    def active_jobs(self) -> Iterator[ActiveJob]:
        """See `Store`."""
        return map(self._active, self._in_flight(items.ACTIVE, ProjectionExpression="pk, active"))

    def _active(self, item: Item) -> ActiveJob:
        """A job that an earlier version wrote tells it by its whole record only."""
        if "active" in item:
            return items.active_of(item)
        return active_job(items.record_of(JobRecord, self._get({"pk": item["pk"], "sk": text("JOB")}) or item))

    def pending_commands(self, created_before: Timestamp) -> Iterator[OutboxEntry]:
        """See `Store`."""
        found = self._in_flight(items.OUTBOX, before=created_before)
        return readable(OutboxEntry, ((f"command {item['sk']['S']}", items.body_of(item)) for item in found))

    def get_command(self, job_id: str, entry_id: str) -> OutboxEntry | None:
        """See `Store`."""
        item = self._get(items.entry_key(job_id, entry_id)) if is_id(job_id) and is_id(entry_id) else None
        return None if item is None else items.record_of(OutboxEntry, item)

    def complete_command(self, entry: OutboxEntry) -> None:
        """See `Store`."""
        call(self._client.delete_item, TableName=self._table, Key=items.entry_key(entry.job_id, entry.id))

    def list_runs(self, tenant: str, *, after: str | None, limit: int) -> Page[FinishedRun]:
        """See `Store`."""
        start = self._cursor(tenant, items.run_key, after)
        found = self._listed(items.runs_of(tenant), start, limit, ascending=False)
        return page_of([items.record_of(FinishedRun, item) for item in found], limit)

    def recent_runs(self, limit: int) -> Iterator[FinishedRun]:
        """See `Store`."""
        found = self._in_flight(items.RUNS, ScanIndexForward=False)
        return (items.record_of(FinishedRun, item) for item in islice(found, limit))

    def ledger(self, tenant: str, month: str, *, limit: MicroUSD, key: str = "") -> TenantLedger:
        """See `Store`."""
        return items.ledger_of(self._get(items.ledger_key(tenant, month, key)), tenant, month, limit, key)

    def ledgers(self, month: str) -> Iterator[tuple[TenantLedger, Tally]]:
        """See `Store`."""
        return map(items.listed_ledger, self._in_flight(items.ledgers_of(month)))

    def lines(self) -> Iterator[tuple[LineState, Tally]]:
        """See `Store`."""
        found = self._in_flight(items.LINES)
        return ((items.line_of(item, item["gsi2sk"]["S"]), items.tally_of(item)) for item in found)

    def correct_ledger(self, ledger: TenantLedger, tally: Tally, reserved: MicroUSD) -> bool:
        """See `Store`."""
        key = items.ledger_key(ledger.tenant, ledger.month, ledger.key)
        return self._correct(key, tally, {"reserved": reserved, "committed": reserved + ledger.billed})

    def correct_line(self, line: LineState, tally: Tally, *, held: int, waiting: int) -> bool:
        """See `Store`."""
        return self._correct(items.line_key(line.line), tally, {"held": held, "waiting": waiting})

    def _correct(self, key: Item, tally: Tally, counts: Mapping[str, int]) -> bool:
        put = ", ".join(f"{name} = :{name}" for name in counts)
        values = {f":{name}": number(count) for name, count in counts.items()}
        try:
            call(
                self._client.update_item,
                TableName=self._table,
                Key=key,
                UpdateExpression=f"SET {put} ADD changes :one",
                ConditionExpression="changes = :seen",
                ExpressionAttributeValues=values | {":one": number(1), ":seen": number(tally.changes)},
            )
        except ConditionFailed:
            return False
        return True

    def _write(
        self, before: JobRecord | None, decision: Decision, limit: MicroUSD, places: Mapping[str, int]
    ) -> tuple[OutboxEntry, ...]:
        change = change_of(before, decision)
        counted = ledger_writes(change.job, decision.ledgers, limit) + line_writes(change.job, decision.lines, places)
        token = new_token()
        self._transact(decision_writes(before, change, counted, token), token)
        return change.entries
