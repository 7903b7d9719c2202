"""The audit log in DynamoDB: a tenant's records share a partition and sort by time."""

from __future__ import annotations

from itertools import islice
from typing import Any

from spotune.contracts.audit import AuditRecord
from spotune.store import items
from spotune.store.page import Page, page_of
from spotune.store.records import another_audit, is_id, unknown_cursor
from spotune.store.table import DynamoTable
from spotune.store.transaction import ConditionFailed, call


class DynamoAudit(DynamoTable):
    """Fulfils `AuditStore`."""

    def begin_audit(self, record: AuditRecord) -> None:
        """See `AuditStore`. The same record again is a try of the client's whose answer was lost."""
        self._put(self._client, record, "attribute_not_exists(pk) OR body = :begun", record)

    def end_audit(self, record: AuditRecord) -> None:
        """See `AuditStore`."""
        self._put(self._hasty(), record, "body = :begun", record.begun)

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

    def _put(self, client: Any, record: AuditRecord, condition: str, found: AuditRecord) -> None:
        try:
            call(
                client.put_item,
                TableName=self._table,
                Item=items.audit_item(record),
                ConditionExpression=condition,
                ExpressionAttributeValues={":begun": items.audit_item(found)["body"]},
            )
        except ConditionFailed as error:
            raise another_audit(record) from error
