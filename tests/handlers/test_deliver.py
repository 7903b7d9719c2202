"""The deliver function on SQS events as Lambda gets them, against a real receiver."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import openai
import pytest

import handlers.deliver
from spotune.aws.webhooks import Webhooks
from spotune.contracts.addresses import parse_networks
from spotune.contracts.notifications import Delivery, OutwardEvent, ToTopic, ToWebhook
from spotune.contracts.webhooks import WebhookRequest
from spotune.service.installation import install
from spotune.service.notifications import webhooks
from spotune.service.notifications.deliver import PAUSES
from tests.in_process import Context, World
from tests.receiver import Receiver, receiving

BODY = OutwardEvent(id="evt_1", created_at=1, type="fine_tuning.job.failed", data={"id": "ftjob-abc"}).model_dump_json()


def sqs_event(body: str, received: int = 1) -> dict[str, Any]:
    """As Lambda records it."""
    return {
        "Records": [
            {
                "messageId": "059f36b4-87a3-44ab-83d2-661975830a7d",
                "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a",
                "body": body,
                "attributes": {
                    "ApproximateReceiveCount": str(received),
                    "SentTimestamp": "1790000000000",
                    "SenderId": "AIDAIENQZJOLO23YVJ4VO",
                    "ApproximateFirstReceiveTimestamp": "1790000000100",
                    "MessageGroupId": "acme",
                },
                "messageAttributes": {},
                "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:deliveries",
                "awsRegion": "us-east-1",
            }
        ]
    }


FAILED = {"batchItemFailures": [{"itemIdentifier": "059f36b4-87a3-44ab-83d2-661975830a7d"}]}
DONE: dict[str, list[object]] = {"batchItemFailures": []}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def opened(world: World) -> World:
    """The installation opens loopback, and its clock is the SDK's."""
    sender = Webhooks(parse_networks("127.0.0.0/8"))
    install(replace(world.here, outlets=replace(world.here.outlets, webhooks=sender), clock=time.time))
    return world


def delivery(world: World, url: str) -> tuple[str, str]:
    """A message to an endpoint at this address, and the endpoint's secret."""
    here = handlers.deliver.installation()
    endpoint, secret = webhooks.create(here, "acme", WebhookRequest(name="x", url=url))
    to = ToWebhook(endpoint_id=endpoint.id)
    message = Delivery(tenant="acme", event_id="evt_1", type="fine_tuning.job.failed", destination=to, body=BODY)
    return message.model_dump_json(), secret


def test_a_receiver_that_fails_first_gets_it_again_and_the_sdk_verifies_both(opened: World, receiver: Receiver) -> None:
    receiver.answers += [500, 200]
    message, secret = delivery(opened, receiver.url)
    assert handlers.deliver.handler(sqs_event(message), Context()) == FAILED
    ((receipt, pause),) = opened.deliveries.postponed
    assert receipt == "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a"
    assert PAUSES[0] <= pause <= PAUSES[0] * 1.3
    assert handlers.deliver.handler(sqs_event(message, received=2), Context()) == DONE
    sdk = openai.OpenAI(api_key="none", base_url=receiver.url)
    events = [sdk.webhooks.unwrap(one.body, one.headers, secret=secret) for one in receiver.requests]
    assert [event.id for event in events] == ["evt_1", "evt_1"]
    assert receiver.requests[0].body == receiver.requests[1].body == BODY.encode()


def test_the_pause_grows_with_the_count_that_sqs_keeps(opened: World, receiver: Receiver) -> None:
    message, _ = delivery(opened, receiver.url)
    receiver.answers += [500] * len(PAUSES)
    for received in range(1, len(PAUSES) + 1):
        handlers.deliver.handler(sqs_event(message, received), Context())
    pauses = [pause for _, pause in opened.deliveries.postponed]
    assert pauses == sorted(pauses)
    assert pauses[-1] >= PAUSES[-1]


def test_gone_ends_it(opened: World, receiver: Receiver) -> None:
    receiver.answers.append(410)
    message, _ = delivery(opened, receiver.url)
    assert handlers.deliver.handler(sqs_event(message), Context()) == DONE
    assert handlers.deliver.handler(sqs_event(message), Context()) == DONE
    assert len(receiver.requests) == 1


def test_an_address_that_was_good_at_registration_is_checked_again(opened: World, receiver: Receiver) -> None:
    message, _ = delivery(opened, receiver.url)
    here = handlers.deliver.installation()
    install(replace(here, outlets=replace(here.outlets, webhooks=Webhooks())))
    assert handlers.deliver.handler(sqs_event(message), Context()) == FAILED
    assert receiver.requests == []


def test_a_message_to_the_topic_is_published(opened: World) -> None:
    message = Delivery(tenant="acme", event_id="evt_1", type="budget.warning", destination=ToTopic(), body=BODY)
    assert handlers.deliver.handler(sqs_event(message.model_dump_json()), Context()) == DONE
    assert opened.topic.published == [(BODY, {"tenant": "acme", "type": "budget.warning"})]


@pytest.mark.parametrize("body", ["", "{", "{}", json.dumps({"tenant": "acme"})])
def test_a_message_that_cannot_be_read_is_reported_and_ends_with_the_dead_letters(opened: World, body: str) -> None:
    assert handlers.deliver.handler(sqs_event(body), Context()) == FAILED
    assert opened.deliveries.postponed == []
