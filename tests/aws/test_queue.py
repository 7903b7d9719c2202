from __future__ import annotations

import json

import pytest

from spotune.aws.base import AwsRefused
from spotune.aws.clients import client
from spotune.aws.memory import MemoryQueue
from spotune.aws.queue import Queue

BODY = {"job_id": "ftjob-abc", "entry_id": "ftjob-abc#1#0"}


def test_a_message_arrives_as_it_was_sent(aws: str) -> None:
    sqs = client("sqs")
    url = sqs.create_queue(QueueName="launch")["QueueUrl"]
    Queue(url).send(BODY)
    (message,) = sqs.receive_message(QueueUrl=url)["Messages"]
    assert json.loads(message["Body"]) == BODY


def test_a_queue_that_is_not_there_is_named(aws: str) -> None:
    with pytest.raises(AwsRefused, match="NonExistentQueue"):
        Queue(f"{aws}/000000000000/none").send(BODY)


def test_the_twin_hands_messages_out_once() -> None:
    queue = MemoryQueue()
    queue.send(BODY)
    assert queue.take() == [BODY]
    assert queue.take() == []
