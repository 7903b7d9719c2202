"""The store in a dict: the twin of `dynamo.py` for fast tests and the fault suite. One contract suite holds both.

Records are kept encoded, so that nothing is shared with the caller and whatever DynamoDB could not keep fails here too.
"""

from __future__ import annotations

import bisect
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from spotune.contracts.base import MicroUSD, Timestamp
from spotune.contracts.errors import VersionConflict
from spotune.contracts.files import FileRecord
from spotune.contracts.history import FinishedRun
from spotune.contracts.identity import ApiKey, TenantLedger
from spotune.contracts.job import Decision, JobRecord, LedgerChange, LogEvent, OutboxEntry
from spotune.store.base import LedgerImbalance, LimitReached, Page, month_of
from spotune.store.records import Change, change_of, decode, encode, moment, owned_by_another, unknown_cursor

R = TypeVar("R", FileRecord, JobRecord, FinishedRun)


class MemoryStore:
    """Fulfils `spotune.store.base.Store`. Safe among threads; lost with the process."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._keys: dict[str, bytes] = {}
        self._uses: dict[str, Timestamp] = {}
        self._files = _Shelf(FileRecord)
        self._jobs = _Shelf(JobRecord)
        self._runs = _Shelf(FinishedRun)
        self._log: dict[str, list[bytes]] = {}
        self._active: dict[str, str] = {}
        self._outbox: dict[str, tuple[str, bytes]] = {}
        self._ledgers: dict[tuple[str, str], TenantLedger] = {}

    def put_key(self, key: ApiKey) -> None:
        """See `Store`."""
        with self._lock:
            self._keys[key.sha256] = encode(key)

    def find_key(self, sha256: str) -> ApiKey | None:
        """See `Store`."""
        with self._lock:
            body = self._keys.get(sha256)
        return None if body is None else decode(ApiKey, body)

    def list_keys(self, tenant: str) -> tuple[tuple[ApiKey, Timestamp | None], ...]:
        """See `Store`."""
        with self._lock:
            keys = [decode(ApiKey, body) for body in self._keys.values()]
            mine = sorted((key for key in keys if key.tenant == tenant), key=lambda key: (-key.created_at, key.sha256))
            return tuple((key, self._uses.get(key.sha256)) for key in mine)

    def note_use(self, key: ApiKey, at: Timestamp) -> None:
        """See `Store`."""
        with self._lock:
            self._uses[key.sha256] = float(int(at))

    def put_file(self, record: FileRecord) -> None:
        """See `Store`."""
        with self._lock:
            if self._files.owner(record.id) not in (None, record.tenant):
                raise owned_by_another(record)
            self._files.put(record, encode(record))

    def get_file(self, tenant: str, file_id: str) -> FileRecord | None:
        """See `Store`."""
        with self._lock:
            return self._files.get(tenant, file_id)

    def list_files(self, tenant: str, *, after: str | None, limit: int, ascending: bool = False) -> Page[FileRecord]:
        """See `Store`."""
        with self._lock:
            return self._files.page(tenant, after, limit, ascending=ascending)

    def delete_file(self, tenant: str, file_id: str) -> bool:
        """See `Store`."""
        with self._lock:
            return self._files.delete(tenant, file_id)

    def create_job(self, decision: Decision, *, limit: MicroUSD) -> tuple[OutboxEntry, ...]:
        """See `Store`."""
        return self._write(None, change_of(None, decision), decision.ledger, limit)

    def commit(self, before: JobRecord, decision: Decision, *, limit: MicroUSD) -> tuple[OutboxEntry, ...]:
        """See `Store`."""
        return self._write(before, change_of(before, decision), decision.ledger, limit)

    def get_job(self, tenant: str, job_id: str) -> JobRecord | None:
        """See `Store`."""
        with self._lock:
            return self._jobs.get(tenant, job_id)

    def find_job(self, job_id: str) -> JobRecord | None:
        """See `Store`."""
        with self._lock:
            return self._jobs.find(job_id)

    def list_jobs(self, tenant: str, *, after: str | None, limit: int) -> Page[JobRecord]:
        """See `Store`."""
        with self._lock:
            return self._jobs.page(tenant, after, limit, ascending=False)

    def list_log(self, tenant: str, job_id: str, *, after: int, limit: int) -> Page[LogEvent]:
        """See `Store`."""
        with self._lock:
            lines = self._log.get(job_id, []) if self._jobs.owner(job_id) == tenant else []
            end = min(after - 1, len(lines)) if after > 0 else len(lines)
            start = max(0, end - limit)
            chosen = lines[start:end][::-1]
        return Page(tuple(decode(LogEvent, line) for line in chosen), has_more=start > 0)

    def active_jobs(self) -> Iterator[str]:
        """See `Store`."""
        with self._lock:
            ordered = sorted(self._active, key=self._active.__getitem__)
        yield from ordered

    def pending_commands(self, created_before: Timestamp) -> Iterator[OutboxEntry]:
        """See `Store`."""
        with self._lock:
            pending = sorted(self._outbox.values())
        for at, body in pending:
            if at >= moment(created_before):
                return
            yield decode(OutboxEntry, body)

    def get_command(self, job_id: str, entry_id: str) -> OutboxEntry | None:
        """See `Store`."""
        with self._lock:
            kept = self._outbox.get(entry_id)
        entry = None if kept is None else decode(OutboxEntry, kept[1])
        return entry if entry is not None and entry.job_id == job_id else None

    def complete_command(self, entry: OutboxEntry) -> None:
        """See `Store`."""
        with self._lock:
            self._outbox.pop(entry.id, None)

    def list_runs(self, tenant: str, *, after: str | None, limit: int) -> Page[FinishedRun]:
        """See `Store`."""
        with self._lock:
            return self._runs.page(tenant, after, limit, ascending=False)

    def recent_runs(self, limit: int) -> Iterator[FinishedRun]:
        """See `Store`."""
        with self._lock:
            kept = sorted(self._runs.kept.values(), key=lambda one: one[1], reverse=True)[:limit]
        return (decode(FinishedRun, body) for _, _, body in kept)

    def ledger(self, tenant: str, month: str, *, limit: MicroUSD) -> TenantLedger:
        """See `Store`."""
        with self._lock:
            kept = self._ledgers.get((tenant, month))
        return TenantLedger(tenant=tenant, month=month, limit=limit) if kept is None else kept.with_(limit=limit)

    def _write(
        self, before: JobRecord | None, change: Change, money: LedgerChange, limit: MicroUSD
    ) -> tuple[OutboxEntry, ...]:
        job = change.job
        body = encode(job)
        log = [encode(event) for event in change.log]
        run = None if change.run is None else encode(change.run)
        outbox = {entry.id: (moment(entry.created_at, entry.id), encode(entry)) for entry in change.entries}
        with self._lock:
            stored = self._jobs.find(job.id)
            if (stored and _guard(stored)) != (before and _guard(before)):
                raise VersionConflict(job.id)
            self._move(job, money, limit)
            self._jobs.put(job, body)
            self._log.setdefault(job.id, []).extend(log)
            self._outbox.update(outbox)
            if change.run is not None and run is not None:
                self._runs.put(change.run, run)
            if not job.open:
                self._active.pop(job.id, None)
            else:
                self._active[job.id] = moment(job.created_at, job.id)
        return change.entries

    def _move(self, job: JobRecord, money: LedgerChange, limit: MicroUSD) -> None:
        if money == LedgerChange():
            return
        month = month_of(job.created_at)
        ledger = self.ledger(job.tenant, month, limit=limit)
        reserved = ledger.reserved + money.reserve - money.release
        billed = ledger.billed + money.settle
        if money.release > ledger.reserved:
            raise LedgerImbalance(ledger, money.release)
        if money.reserve and reserved + billed > limit:
            raise LimitReached(ledger)
        self._ledgers[job.tenant, month] = ledger.with_(reserved=reserved, billed=billed)


def _guard(job: JobRecord) -> tuple[int, str]:
    return job.version, job.tenant


@dataclass(slots=True)
class _Shelf(Generic[R]):
    """Records of one kind: by id, and of each tenant by time."""

    model: type[R]
    kept: dict[str, tuple[str, str, bytes]] = field(default_factory=dict)
    """id -> tenant, moment, body."""
    timelines: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """tenant -> moments, ascending."""

    def put(self, record: R, body: bytes) -> None:
        at = moment(record.created_at, record.id)
        before = self.kept.get(record.id)
        if before is None or before[1] != at:
            if before is not None:
                self.timelines[record.tenant].remove(before[1])
            bisect.insort(self.timelines[record.tenant], at)
        self.kept[record.id] = (record.tenant, at, body)

    def find(self, record_id: str) -> R | None:
        return decode(self.model, self.kept[record_id][2]) if record_id in self.kept else None

    def get(self, tenant: str, record_id: str) -> R | None:
        return self.find(record_id) if self.owner(record_id) == tenant else None

    def owner(self, record_id: str) -> str | None:
        return self.kept[record_id][0] if record_id in self.kept else None

    def delete(self, tenant: str, record_id: str) -> bool:
        if self.owner(record_id) != tenant:
            return False
        _, at, _ = self.kept.pop(record_id)
        self.timelines[tenant].remove(at)
        return True

    def page(self, tenant: str, after: str | None, limit: int, *, ascending: bool) -> Page[R]:
        timeline = self.timelines.get(tenant, [])
        start, end = 0, len(timeline)
        if after is not None:
            if self.owner(after) != tenant:
                raise unknown_cursor(after)
            place = bisect.bisect_left(timeline, self.kept[after][1])
            start, end = (place + 1, end) if ascending else (0, place)
        moments = timeline[start : start + limit] if ascending else timeline[max(start, end - limit) : end][::-1]
        ids = (at.partition("#")[2] for at in moments)
        return Page(tuple(decode(self.model, self.kept[i][2]) for i in ids), has_more=end - start > limit)
