"""Webhook endpoints and told warnings in a dict: the twin of `dynamo_notices.py`."""

from __future__ import annotations

import threading

from spotune.contracts.notifications import WebhookEndpoint
from spotune.store.records import decode, encode, newest_first


class MemoryNotices:
    """Fulfils `NoticeStore` in memory."""

    def __init__(self) -> None:
        super().__init__()
        self._webhooks: dict[tuple[str, str], bytes] = {}
        self._told: dict[tuple[str, str, str], int] = {}
        self._noticing = threading.RLock()

    def create_webhook(self, endpoint: WebhookEndpoint) -> None:
        """See `NoticeStore`."""
        with self._noticing:
            self._webhooks[endpoint.tenant, endpoint.id] = encode(endpoint)

    def replace_webhook(self, endpoint: WebhookEndpoint) -> bool:
        """See `NoticeStore`."""
        with self._noticing:
            if (endpoint.tenant, endpoint.id) not in self._webhooks:
                return False
            self._webhooks[endpoint.tenant, endpoint.id] = encode(endpoint)
            return True

    def get_webhook(self, tenant: str, endpoint_id: str) -> WebhookEndpoint | None:
        """See `NoticeStore`."""
        body = self._webhooks.get((tenant, endpoint_id))
        return None if body is None else decode(WebhookEndpoint, body)

    def list_webhooks(self, tenant: str) -> tuple[WebhookEndpoint, ...]:
        """See `NoticeStore`."""
        with self._noticing:
            kept = [body for (owner, _), body in self._webhooks.items() if owner == tenant]
        return newest_first([decode(WebhookEndpoint, body) for body in kept])

    def delete_webhook(self, tenant: str, endpoint_id: str) -> bool:
        """See `NoticeStore`."""
        with self._noticing:
            return self._webhooks.pop((tenant, endpoint_id), None) is not None

    def told_level(self, tenant: str, month: str, key: str = "") -> int:
        """See `NoticeStore`."""
        return self._told.get((tenant, month, key), 0)

    def note_told_level(self, tenant: str, month: str, level: int, key: str = "") -> None:
        """See `NoticeStore`."""
        with self._noticing:
            self._told[tenant, month, key] = max(level, self.told_level(tenant, month, key))
