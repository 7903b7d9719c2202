"""The audit log in a dict: the twin of `dynamo_audit.py`."""

from __future__ import annotations

import threading

from spotune.contracts.audit import AuditRecord
from spotune.store.page import Page, page_of
from spotune.store.records import another_audit, decode, encode, unknown_cursor


class MemoryAudit:
    """Fulfils `AuditStore` in memory."""

    def __init__(self) -> None:
        super().__init__()
        self._audit: dict[tuple[str, str], bytes] = {}
        self._auditing = threading.RLock()

    def begin_audit(self, record: AuditRecord) -> None:
        """See `AuditStore`."""
        with self._auditing:
            if self._audit.setdefault((record.tenant, record.id), encode(record)) != encode(record):
                raise another_audit(record)

    def end_audit(self, record: AuditRecord) -> None:
        """See `AuditStore`."""
        with self._auditing:
            if self._audit.get((record.tenant, record.id)) != encode(record.begun):
                raise another_audit(record)
            self._audit[record.tenant, record.id] = encode(record)

    def list_audit(self, tenant: str, *, after: str | None, limit: int) -> Page[AuditRecord]:
        """See `AuditStore`."""
        with self._auditing:
            if after is not None and (tenant, after) not in self._audit:
                raise unknown_cursor(after)
            mine = sorted((record_id for owner, record_id in self._audit if owner == tenant), reverse=True)
            older = [record_id for record_id in mine if after is None or record_id < after]
            found = [decode(AuditRecord, self._audit[tenant, record_id]) for record_id in older[: limit + 1]]
        return page_of(found, limit)
