"""Webhook endpoints and told warnings in DynamoDB.

A tenant's endpoints share one partition: listing them is one consistent query, and no key leads to another tenant's.
"""

from __future__ import annotations

import contextlib

from spotune.contracts.notifications import WebhookEndpoint
from spotune.store import items
from spotune.store.items import number, text
from spotune.store.records import is_id, newest_first
from spotune.store.table import DynamoTable
from spotune.store.transaction import ConditionFailed, call


class DynamoNotices(DynamoTable):
    """Fulfils `NoticeStore`."""

    def create_webhook(self, endpoint: WebhookEndpoint) -> None:
        """See `NoticeStore`."""
        call(self._client.put_item, TableName=self._table, Item=items.webhook_item(endpoint))

    def replace_webhook(self, endpoint: WebhookEndpoint) -> bool:
        """See `NoticeStore`."""
        try:
            item = items.webhook_item(endpoint)
            call(self._client.put_item, TableName=self._table, Item=item, ConditionExpression="attribute_exists(pk)")
        except ConditionFailed:
            return False
        return True

    def get_webhook(self, tenant: str, endpoint_id: str) -> WebhookEndpoint | None:
        """See `NoticeStore`."""
        if not is_id(endpoint_id):
            return None
        item = self._get(items.webhook_key(tenant, endpoint_id))
        return None if item is None else items.record_of(WebhookEndpoint, item)

    def list_webhooks(self, tenant: str) -> tuple[WebhookEndpoint, ...]:
        """See `NoticeStore`. A tenant has so few that they come in one page."""
        found = call(
            self._client.query,
            TableName=self._table,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": items.webhook_key(tenant, "")["pk"]},
            ConsistentRead=True,
        )
        return newest_first([items.record_of(WebhookEndpoint, item) for item in found["Items"]])

    def delete_webhook(self, tenant: str, endpoint_id: str) -> bool:
        """See `NoticeStore`."""
        if not is_id(endpoint_id):
            return False
        key = items.webhook_key(tenant, endpoint_id)
        gone = call(self._client.delete_item, TableName=self._table, Key=key, ReturnValues="ALL_OLD")
        return "Attributes" in gone

    def told_level(self, tenant: str, month: str, key: str = "") -> int:
        """See `NoticeStore`."""
        item = self._get(items.told_key(tenant, month, key))
        return 0 if item is None else int(item["level"]["N"])

    def note_told_level(self, tenant: str, month: str, level: int, key: str = "") -> None:
        """See `NoticeStore`."""
        with contextlib.suppress(ConditionFailed):  # a higher one is known
            call(
                self._client.put_item,
                TableName=self._table,
                Item=items.told_key(tenant, month, key) | {"tenant": text(tenant), "level": number(level)},
                ConditionExpression="attribute_not_exists(pk) OR #level < :level",
                ExpressionAttributeNames={"#level": "level"},
                ExpressionAttributeValues={":level": number(level)},
            )
