"""The store in one DynamoDB table. Keys and items are spelled in `items.py`, transactions in `transaction.py`.

Whatever guards a change or money is read consistently from the table or decided by DynamoDB inside the transaction.
The indexes only list: they may lag by moments.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

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
from spotune.store.dynamo_notices import DynamoNotices
from spotune.store.items import Item, number, text
from spotune.store.page import Page, page_of
from spotune.store.records import change_of, is_id, moment, owned_by_another, readable, unknown_cursor
from spotune.store.transaction import ConditionFailed, Transaction, call, new_token

MOST_KEYS = 1000
"""A tenant's that are listed."""


class DynamoStore(DynamoNotices):
    """Fulfils `spotune.store.base.Store`. Safe among threads, as the client is.

    Args:
        table_name: a table with string keys `pk`, `sk` and the indexes `gsi1`, `gsi2` (all attributes projected).
        client: boto3's low-level DynamoDB client, with its own retries and timeouts.
        sleep: waits so many seconds between tries of a transaction.
    """

    def __init__(self, table_name: str, client: Any, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._table = table_name
        self._client = client
        self._sleep = sleep

    def put_key(self, key: ApiKey) -> None:
        """See `Store`."""
        call(self._client.put_item, TableName=self._table, Item=items.key_item(key))

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
        newest = items.log_key(job_id, after - 1 if after > 0 else items.LAST_SEQUENCE)
        found = self._query(
            limit + 1,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :oldest AND :newest",
            ExpressionAttributeValues={
                ":pk": newest["pk"],
                ":oldest": items.log_key(job_id, 0)["sk"],
                ":newest": newest["sk"],
            },
            ScanIndexForward=False,
            ConsistentRead=True,
        )
        lines = [items.record_of(LogEvent, item) for item in islice(found, limit + 1) if _is_of(item, tenant)]
        return page_of(lines, limit)

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
        writes = decision_writes(before, change, counted, token)
        Transaction(self._table, writes, token).run(self._client, self._sleep)
        return change.entries

    def _get_owned(self, tenant: str, key: Callable[[str], Item], record_id: str, **more: object) -> Item | None:
        item = self._get(key(record_id), **more) if is_id(record_id) else None
        return item if item is not None and _is_of(item, tenant) else None

    def _get(self, key: Item, **more: object) -> Item | None:
        found = call(self._client.get_item, TableName=self._table, Key=key, ConsistentRead=True, **more)
        return found.get("Item")

    def _cursor(self, tenant: str, key: Callable[[str], Item], after: str | None) -> Item | None:
        """The place in the tenant's list of the record that a page follows."""
        if after is None:
            return None
        item = self._get_owned(tenant, key, after, ProjectionExpression="tenant, gsi1sk")
        if item is None:
            raise unknown_cursor(after)
        return {":after": item["gsi1sk"]}

    def _listed(
        self, partition: str, start: Item | None, limit: int, *, ascending: bool, index: str = items.BY_TENANT
    ) -> Iterator[Item]:
        """Up to `limit + 1` items, so that it is known whether there are more."""
        beyond = f" AND {index}sk {'>' if ascending else '<'} :after" if start else ""
        found = self._query(
            limit + 1,
            IndexName=index,
            KeyConditionExpression=f"{index}pk = :partition{beyond}",
            ExpressionAttributeValues={":partition": text(partition), **(start or {})},
            ScanIndexForward=ascending,
        )
        return islice(found, limit + 1)

    def _in_flight(self, partition: str, *, before: Timestamp | None = None, **more: object) -> Iterator[Item]:
        values = {":partition": text(partition)}
        if before is not None:
            values[":before"] = text(moment(before))
        return self._query(
            None,
            IndexName=items.IN_FLIGHT,
            KeyConditionExpression="gsi2pk = :partition" + (" AND gsi2sk < :before" if before is not None else ""),
            ExpressionAttributeValues=values,
            **more,
        )

    def _query(self, page_size: int | None, **arguments: object) -> Iterator[Item]:
        """All items of a query, fetched as they are asked for: DynamoDB ends a page at 1 MB."""
        if page_size is not None:
            arguments["Limit"] = page_size
        while True:
            found = call(self._client.query, TableName=self._table, **arguments)
            yield from found["Items"]
            if "LastEvaluatedKey" not in found:
                return
            arguments["ExclusiveStartKey"] = found["LastEvaluatedKey"]


def _is_of(item: Item, tenant: str) -> bool:
    return bool(item["tenant"]["S"] == tenant)
