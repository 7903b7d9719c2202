"""The store in a dict: the twin of `dynamo.py` for fast tests and the fault suite. One contract suite holds both.

Records are kept encoded, so that nothing is shared with the caller and whatever DynamoDB could not keep fails here too.
"""

from __future__ import annotations

import bisect
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from spotune.contracts.base import MicroUSD, Timestamp
from spotune.contracts.commands import OutboxEntry
from spotune.contracts.errors import VersionConflict
from spotune.contracts.files import FileRecord
from spotune.contracts.history import FinishedRun
from spotune.contracts.identity import ApiKey, TenantLedger
from spotune.contracts.job import STATUS, ActiveJob, Decision, JobRecord, LedgerChange, LogEvent, Status, active_job
from spotune.contracts.lines import LineChange, LineState, Tally
from spotune.store.base import NO_LIMITS, LedgerImbalance, LimitReached, LineFull
from spotune.store.memory_audit import MemoryAudit
from spotune.store.memory_models import MemoryModels
from spotune.store.memory_notices import MemoryNotices
from spotune.store.memory_retraining import MemoryRetraining
from spotune.store.page import Page
from spotune.store.records import change_of, decode, encode, moment, owned_by_another, readable, unknown_cursor

R = TypeVar("R", FileRecord, JobRecord, FinishedRun)


WINDOWS_KEPT = 10
"""Of a key's counted requests: clocks are not so far apart."""


class MemoryStore(MemoryAudit, MemoryModels, MemoryNotices, MemoryRetraining):
    """Fulfils `spotune.store.base.Store`. Safe among threads; lost with the process."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.RLock()
        self._keys: dict[str, bytes] = {}
        self._uses: dict[tuple[str, str], Timestamp] = {}
        self._windows: dict[str, dict[int, int]] = {}
        self._files = _Shelf(FileRecord)
        self._jobs = _Shelf(JobRecord)
        self._runs = _Shelf(FinishedRun)
        self._log: dict[str, list[bytes]] = {}
        self._active: dict[str, tuple[str, bytes]] = {}
        self._outbox: dict[str, tuple[str, bytes]] = {}
        self._ledgers: dict[tuple[str, str, str], TenantLedger] = {}
        self._lines: dict[str, LineState] = {}
        self._by_status: dict[tuple[str, Status], list[str]] = defaultdict(list)
        """Moments of a tenant's jobs of one status, ascending."""
        self._tallies: dict[tuple[str, ...], Tally] = {}

    def put_key(self, key: ApiKey) -> None:
        """See `Store`."""
        with self._lock:
            known = self._keys.get(key.sha256)
            anew = key.revoked_at is not None or key.principal is not None
            if known is None or anew or decode(ApiKey, known).revoked_at is None:
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
            return tuple((key, self._uses.get((tenant, key.sha256))) for key in mine)

    def note_use(self, key: ApiKey, at: Timestamp) -> None:
        """See `Store`."""
        with self._lock:
            self._uses[key.tenant, key.sha256] = float(int(at))

    def count_request(self, key: ApiKey, until: int, *, limit: int) -> int | None:
        """See `Store`. Keeps each key's last windows only."""
        with self._lock:
            windows = self._windows.setdefault(key.sha256, {})
            used = windows.get(until, 0)
            if used >= limit:
                return None
            windows[until] = used + 1
            for old in sorted(windows)[:-WINDOWS_KEPT]:
                del windows[old]
            return used + 1

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
        with self._lock:
            return self._jobs.get(tenant, job_id)

    def find_job(self, job_id: str) -> JobRecord | None:
        """See `Store`."""
        with self._lock:
            return self._jobs.find(job_id)

    def list_jobs(self, tenant: str, *, after: str | None, limit: int, status: Status | None = None) -> Page[JobRecord]:
        """See `Store`."""
        with self._lock:
            timeline = None if status is None else self._by_status.get((tenant, status), [])
            return self._jobs.page(tenant, after, limit, ascending=False, timeline=timeline)

    def list_log(self, tenant: str, job_id: str, *, after: int, limit: int) -> Page[LogEvent]:
        """See `Store`."""
        with self._lock:
            lines = self._log.get(job_id, []) if self._jobs.owner(job_id) == tenant else []
            end = min(after - 1, len(lines)) if after > 0 else len(lines)
            start = max(0, end - limit)
            chosen = lines[start:end][::-1]
        return Page(tuple(decode(LogEvent, line) for line in chosen), has_more=start > 0)

    def active_jobs(self) -> Iterator[ActiveJob]:
        """See `Store`."""
        with self._lock:
            ordered = sorted(self._active.values())
        return (decode(ActiveJob, body) for _, body in ordered)

    def pending_commands(self, created_before: Timestamp) -> Iterator[OutboxEntry]:
        """See `Store`."""
        with self._lock:
            pending = sorted((at, name, body) for name, (at, body) in self._outbox.items())
        due = ((f"command {name}", body) for at, name, body in pending if at < moment(created_before))
        return readable(OutboxEntry, due)

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

    def ledger(self, tenant: str, month: str, *, limit: MicroUSD, key: str = "") -> TenantLedger:
        """See `Store`."""
        with self._lock:
            kept = self._ledgers.get((tenant, month, key))
        empty = TenantLedger(tenant=tenant, month=month, key=key, limit=limit)
        return empty if kept is None else kept.with_(limit=limit)

    def ledgers(self, month: str) -> Iterator[tuple[TenantLedger, Tally]]:
        """See `Store`."""
        with self._lock:
            kept = sorted(place for place in self._ledgers if place[1] == month)
            yield from [(self._ledgers[place].with_(limit=0), self._tallies[place]) for place in kept]

    def lines(self) -> Iterator[tuple[LineState, Tally]]:
        """See `Store`."""
        with self._lock:
            yield from [(state, self._tallies[line,]) for line, state in sorted(self._lines.items())]

    def correct_ledger(self, ledger: TenantLedger, tally: Tally, reserved: MicroUSD) -> bool:
        """See `Store`."""
        place = (ledger.tenant, ledger.month, ledger.key)
        with self._lock:
            if self._tallies.get(place) != tally:
                return False
            self._ledgers[place] = self._ledgers[place].with_(reserved=reserved)
            self._tallies[place] = tally.with_(changes=tally.changes + 1)
        return True

    def correct_line(self, line: LineState, tally: Tally, *, held: int, waiting: int) -> bool:
        """See `Store`."""
        with self._lock:
            if self._tallies.get((line.line,)) != tally:
                return False
            self._lines[line.line] = line.with_(held=held, waiting=waiting)
            self._tallies[line.line,] = tally.with_(changes=tally.changes + 1)
        return True

    def _write(
        self, before: JobRecord | None, decision: Decision, limit: MicroUSD, places: Mapping[str, int]
    ) -> tuple[OutboxEntry, ...]:
        change = change_of(before, decision)
        job = change.job
        body = encode(job)
        log = [encode(event) for event in change.log]
        run = None if change.run is None else encode(change.run)
        outbox = {entry.id: (moment(entry.created_at, entry.id), encode(entry)) for entry in change.entries}
        with self._lock:
            stored = self._jobs.find(job.id)
            if (stored and _guard(stored)) != (before and _guard(before)):
                raise VersionConflict(job.id)
            self._move(job, decision.ledgers, limit, decision.lines, places)
            self._move_status(stored, job)
            self._jobs.put(job, body)
            self._log.setdefault(job.id, []).extend(log)
            self._outbox.update(outbox)
            if change.run is not None and run is not None:
                self._runs.put(change.run, run)
            if not job.open:
                self._active.pop(job.id, None)
            else:
                self._active[job.id] = moment(job.created_at, job.id), encode(active_job(job))
        return change.entries

    def _move(
        self,
        job: JobRecord,
        moves: tuple[LedgerChange, ...],
        limit: MicroUSD,
        lines: tuple[LineChange, ...],
        places: Mapping[str, int],
    ) -> None:
        """All counters or none: everything is checked before anything is written."""
        keys = [] if job.key is None else [(job.key.id, job.key.monthly_limit)]
        accounts = [("", limit), *keys]
        ledgers = [self._moved_ledger(job, money, *account) for money in moves if money.moves for account in accounts]
        states = [self._moved_line(change, places.get(change.line)) for change in lines]
        for ledger in ledgers:
            place = (ledger.tenant, ledger.month, ledger.key)
            self._ledgers[place] = ledger
            self._count(place, job.updated_at)
        for state in states:
            self._lines[state.line] = state
            self._count((state.line,), job.updated_at)

    def _move_status(self, before: JobRecord | None, job: JobRecord) -> None:
        at, status = moment(job.created_at, job.id), STATUS[job.state]
        if before is not None and STATUS[before.state] == status:
            return
        if before is not None:
            self._by_status[job.tenant, STATUS[before.state]].remove(at)
        bisect.insort(self._by_status[job.tenant, status], at)

    def _moved_ledger(self, job: JobRecord, money: LedgerChange, key: str, limit: MicroUSD) -> TenantLedger:
        ledger = self.ledger(job.tenant, money.month, limit=limit, key=key)
        reserved = ledger.reserved + money.reserve - money.release
        billed = ledger.billed + money.settle
        if money.release > ledger.reserved:
            raise LedgerImbalance(ledger, money.release)
        if money.reserve and reserved + billed > limit:
            raise LimitReached(ledger)
        return ledger.with_(reserved=reserved, billed=billed)

    def _moved_line(self, change: LineChange, places: int | None) -> LineState:
        state = self._lines.get(change.line, LineState(line=change.line))
        moved = state.with_(held=state.held + change.held, waiting=state.waiting + change.waiting)
        full = places is not None and moved.held > places
        if change.held > 0 and (full or (state.waiting > 0 and not change.in_turn)):
            raise LineFull(state)
        return moved

    def _count(self, place: tuple[str, ...], at: Timestamp) -> None:
        before = self._tallies.get(place)
        self._tallies[place] = Tally(changes=1 if before is None else before.changes + 1, changed_at=at)


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

    def page(
        self, tenant: str, after: str | None, limit: int, *, ascending: bool, timeline: list[str] | None = None
    ) -> Page[R]:
        """Of all the tenant's, or of those whose moments `timeline` has."""
        timeline = self.timelines.get(tenant, []) if timeline is None else timeline
        start, end = 0, len(timeline)
        if after is not None:
            if self.owner(after) != tenant:
                raise unknown_cursor(after)
            place = bisect.bisect_left(timeline, self.kept[after][1])
            start, end = (place + 1, end) if ascending else (0, place)
        moments = timeline[start : start + limit] if ascending else timeline[max(start, end - limit) : end][::-1]
        ids = (at.partition("#")[2] for at in moments)
        return Page(tuple(decode(self.model, self.kept[i][2]) for i in ids), has_more=end - start > limit)
