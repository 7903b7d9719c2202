"""A webhook on loopback receives a job's events from the deployed functions, and the public SDK verifies them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from spotune.local.deployment import client
from spotune.local.state import StackState
from tests import tiny_model
from tests.polling import wait_for
from tests.receiver import Receiver, receiving
from tests.tiny_model import chat_rows

pytestmark = [pytest.mark.embedded, pytest.mark.torch]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


def endpoint(sdk: openai.OpenAI, url: str, *types: str) -> Any:
    return sdk.webhooks.create(name="test", url=url, event_types=list(types))  # type: ignore[arg-type]


def submit(sdk: openai.OpenAI) -> str:
    file = sdk.files.create(file=("rows.jsonl", chat_rows(48)), purpose="fine-tune")
    return sdk.fine_tuning.jobs.create(
        model=tiny_model.NAME,
        training_file=file.id,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": 8}}},
        extra_body={"adapter": {"type": "lora", "rank": 4}, "gate": {"better_than_base": False}},
    ).id


def test_a_jobs_events_arrive_verify_and_are_published(
    trainable: StackState, sdk: openai.OpenAI, receiver: Receiver
) -> None:
    """Registered, tested, delivered at the second try, and deleted, all by the SDK's own calls."""
    mailbox = subscribed_mailbox(trainable)
    hook = endpoint(sdk, receiver.url, "fine_tuning.job.succeeded")
    assert sdk.webhooks.test(hook.id, event_type="fine_tuning.job.succeeded").status_code == 200
    assert sdk.webhooks.unwrap(receiver.requests[0].body, receiver.requests[0].headers, secret=hook.signing_secret)
    receiver.requests.clear()
    receiver.answers.append(500)
    job_id = submit(sdk)
    wait_for(lambda: True if len(receiver.requests) > 1 else None, "the second try of the delivery")
    first, second = (
        sdk.webhooks.unwrap(one.body, one.headers, secret=hook.signing_secret) for one in receiver.requests[:2]
    )
    assert first == second
    assert (first.type, first.data.id) == ("fine_tuning.job.succeeded", job_id)
    assert receiver.requests[0].headers["webhook-id"] == receiver.requests[1].headers["webhook-id"] == first.id
    assert mailbox() >= {("fine_tuning.job.running", job_id), ("fine_tuning.job.succeeded", job_id)}
    assert hook.id in [one.id for one in sdk.webhooks.list()]
    assert sdk.webhooks.delete(hook.id).deleted


def test_a_receiver_that_is_gone_is_told_nothing_more(
    trainable: StackState, sdk: openai.OpenAI, receiver: Receiver
) -> None:
    mailbox = subscribed_mailbox(trainable)
    hook = endpoint(sdk, receiver.url, "fine_tuning.job.cancelled")
    receiver.answers.append(410)
    sdk.fine_tuning.jobs.cancel(submit(sdk))
    wait_for(lambda: disabled(sdk, hook.id), "the endpoint to be disabled")
    later = submit(sdk)
    sdk.fine_tuning.jobs.cancel(later)
    wait_for(lambda: True if ("fine_tuning.job.cancelled", later) in mailbox() else None, "the topic to be told")
    assert len(receiver.requests) == 1
    sdk.webhooks.delete(hook.id)


def test_an_address_beside_loopback_is_refused(sdk: openai.OpenAI) -> None:
    for url in (
        "http://169.254.169.254/latest/meta-data",
        "https://10.0.0.1/",
        "https://[::1]/",
        "https://192.168.0.1/",
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            endpoint(sdk, url, "fine_tuning.job.failed")
        assert refused.value.code == "webhook_address_refused"


def test_a_secret_is_rotated_and_an_endpoint_changed_by_the_sdk(sdk: openai.OpenAI, receiver: Receiver) -> None:
    hook = endpoint(sdk, receiver.url, "fine_tuning.job.failed")
    assert sdk.webhooks.retrieve(hook.id).event_types == ["fine_tuning.job.failed"]
    changed = sdk.webhooks.update(hook.id, event_types=["fine_tuning.job.succeeded"], name="other")
    assert (changed.name, changed.event_types) == ("other", ["fine_tuning.job.succeeded"])
    rotated = sdk.webhooks.rotate_secret(hook.id, keep_old_secret_active_for_24_hours=True)
    sdk.webhooks.test(hook.id, event_type="fine_tuning.job.succeeded")
    for secret in (hook.signing_secret, rotated.signing_secret):
        assert sdk.webhooks.unwrap(receiver.requests[0].body, receiver.requests[0].headers, secret=secret)
    assert "fine_tuning.job.waiting" in sdk.webhooks.event_types.list().data
    sdk.webhooks.delete(hook.id)


def disabled(sdk: openai.OpenAI, endpoint_id: str) -> bool | None:
    details: Any = sdk.webhooks.retrieve(endpoint_id).model_extra
    return True if details["spotune"]["disabled_at"] is not None else None


def subscribed_mailbox(stack: StackState) -> Any:
    """A queue on the topic, and what it has got: type and subject of each event."""
    sqs, sns = client("sqs", stack.emulator_url), client("sns", stack.emulator_url)
    queue = sqs.create_queue(QueueName="mailbox")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    (topic,) = (one["TopicArn"] for one in sns.list_topics()["Topics"] if "Notifications" in one["TopicArn"])
    policy = {"FilterPolicy": '{"tenant": ["local"]}', "RawMessageDelivery": "true"}
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes=policy)

    def read() -> set[tuple[str, str]]:
        seen = set()
        while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                event = json.loads(message["Body"])
                seen.add((event["type"], event["data"]["id"]))
        return seen

    return read
