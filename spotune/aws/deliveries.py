"""The queue of deliveries: fair between tenants, and each message comes again when it is told to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from spotune.aws.clients import call, client

LONGEST_PAUSE = 43_200
"""Seconds that SQS hides a message at most, from when it was received."""


class Deliveries:
    """Fulfils `DeliveryQueue`.

    Args:
        url: the queue's URL.
        sqs: boto3's SQS client; the shared one where none is given.
    """

    def __init__(self, url: str, sqs: Any = None) -> None:
        self._url = url
        self._sqs = sqs

    def send(self, body: Mapping[str, object], tenant: str) -> None:
        """See `DeliveryQueue`. A message group on a standard queue makes it a fair queue; it orders nothing."""
        text = json.dumps(body, separators=(",", ":"))
        call(self._client().send_message, QueueUrl=self._url, MessageBody=text, MessageGroupId=tenant)

    def postpone(self, receipt: str, seconds: int) -> None:
        """See `DeliveryQueue`."""
        call(
            self._client().change_message_visibility,
            QueueUrl=self._url,
            ReceiptHandle=receipt,
            VisibilityTimeout=min(seconds, LONGEST_PAUSE - 300),  # some of its time has passed already
        )

    def _client(self) -> Any:
        return self._sqs or client("sqs")
