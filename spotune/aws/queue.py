"""Messages to SQS."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from spotune.aws.clients import call, client


class Queue:
    """Fulfils `MessageQueue`.

    Args:
        url: the queue's URL.
        sqs: boto3's SQS client; the shared one where none is given.
    """

    def __init__(self, url: str, sqs: Any = None) -> None:
        self._url = url
        self._sqs = sqs

    def send(self, body: Mapping[str, object]) -> None:
        """See `MessageQueue`."""
        sqs = self._sqs or client("sqs")
        call(sqs.send_message, QueueUrl=self._url, MessageBody=json.dumps(body, separators=(",", ":")))
