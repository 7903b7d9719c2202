"""The audit log in DynamoDB: a tenant's records share a partition and sort by time."""

from __future__ import annotations

from itertools import islice

from spotune.contracts.audit import AuditRecord
from spotune.store import items
from spotune.store.page import Page, page_of
from spotune.store.records import is_id, unknown_cursor
from spotune.store.table import DynamoTable
from spotune.store.transaction import call


class DynamoAudit(DynamoTable):
    """Fulfils `AuditStore`."""

    def put_audit(self, record: AuditRecord) -> None:
        """See `AuditStore`."""
        call(self._client.put_item, TableName=self._table, Item=items.audit_item(record))

    def list_audit(self, tenant: str, *, after: str | None, limit: int) -> Page[AuditRecord]:
        """See `AuditStore`."""
        if after is not None and not (is_id(after) and self._get(items.audit_key(tenant, after))):
            raise unknown_cursor(after)
        key = items.audit_key(tenant, after or items.AFTER_EVERY_AUDIT)
        found = self._query(
            limit + 1,
            KeyConditionExpression="pk = :pk AND sk < :after",
            ExpressionAttributeValues={":pk": key["pk"], ":after": key["sk"]},
            ScanIndexForward=False,
            ConsistentRead=True,
        )
        return page_of([items.record_of(AuditRecord, item) for item in islice(found, limit + 1)], limit)
