"""Notifications to SNS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spotune.aws.clients import call, client


class Topic:
    """Fulfils `NotificationTopic`.

    Args:
        arn: the topic's.
        sns: boto3's SNS client; the shared one where none is given.
    """

    def __init__(self, arn: str, sns: Any = None) -> None:
        self._arn = arn
        self._sns = sns

    def publish(self, body: str, attributes: Mapping[str, str]) -> None:
        """See `NotificationTopic`."""
        sns = self._sns or client("sns")
        written = {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()}
        call(sns.publish, TopicArn=self._arn, Message=body, MessageAttributes=written)
