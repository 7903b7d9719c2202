"""The topic, the queue of deliveries and the secret, against an emulator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError

from spotune.aws.base import AwsRefused
from spotune.aws.deliveries import LONGEST_PAUSE, Deliveries
from spotune.aws.secrets import FRESH, RotatedSecret, Secret
from spotune.aws.topic import Topic
from spotune.contracts.errors import Unavailable
from tests.emulator import credentials, running_emulator


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_emulator(tmp_path_factory.mktemp("outlets"), "sns,sqs,secretsmanager") as url:
        yield url


@pytest.fixture
def sqs(emulator: str) -> Any:
    return boto3.client("sqs", **credentials(emulator))


@pytest.fixture
def queue(sqs: Any, request: pytest.FixtureRequest) -> str:
    """A queue of this test's own that gives a message up after two tries."""
    dead = sqs.create_queue(QueueName=f"dead-{abs(hash(request.node.name))}")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "2"})
    made = sqs.create_queue(QueueName=f"live-{abs(hash(request.node.name))}", Attributes={"RedrivePolicy": redrive})
    return str(made["QueueUrl"])


def received(sqs: Any, queue: str) -> list[dict[str, Any]]:
    answer = sqs.receive_message(QueueUrl=queue, AttributeNames=["All"], MaxNumberOfMessages=10, WaitTimeSeconds=0)
    return list(answer.get("Messages", ()))


def test_a_delivery_is_sent_in_its_tenants_group(sqs: Any, queue: str) -> None:
    Deliveries(queue, sqs).send({"body": "ä"}, "acme")
    (message,) = received(sqs, queue)
    assert json.loads(message["Body"]) == {"body": "ä"}
    assert message["Attributes"]["MessageGroupId"] == "acme"


def test_groups_order_nothing_one_slow_message_holds_none_back(sqs: Any, queue: str) -> None:
    for number in range(3):
        Deliveries(queue, sqs).send({"number": number}, "acme")
    assert len({message["MessageId"] for _ in range(3) for message in received(sqs, queue)}) == 3


def test_a_postponed_delivery_comes_again_when_it_was_told_to(sqs: Any, queue: str) -> None:
    deliveries = Deliveries(queue, sqs)
    deliveries.send({"body": 1}, "acme")
    (message,) = received(sqs, queue)
    deliveries.postpone(message["ReceiptHandle"], 3600)
    assert received(sqs, queue) == []
    deliveries.postpone(message["ReceiptHandle"], 0)
    (again,) = received(sqs, queue)
    assert again["Attributes"]["ApproximateReceiveCount"] == "2"


def test_after_its_last_try_a_delivery_lies_with_the_dead_letters(sqs: Any, queue: str) -> None:
    deliveries = Deliveries(queue, sqs)
    deliveries.send({"body": 1}, "acme")
    for _ in range(2):
        (message,) = received(sqs, queue)
        deliveries.postpone(message["ReceiptHandle"], 0)
    assert received(sqs, queue) == []
    assert len(received(sqs, queue.replace("live-", "dead-"))) == 1


def test_the_longest_pause_is_within_what_sqs_takes(sqs: Any, queue: str) -> None:
    deliveries = Deliveries(queue, sqs)
    deliveries.send({"body": 1}, "acme")
    (message,) = received(sqs, queue)
    deliveries.postpone(message["ReceiptHandle"], 10 * LONGEST_PAUSE)
    assert received(sqs, queue) == []


def test_subscriptions_filter_by_tenant_and_type(emulator: str, sqs: Any, queue: str) -> None:
    sns = boto3.client("sns", **credentials(emulator))
    topic = sns.create_topic(Name="notifications")["TopicArn"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"tenant": ["acme"], "type": [{"prefix": "fine_tuning."}]})
    attributes = {"FilterPolicy": policy, "RawMessageDelivery": "true"}
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes=attributes)
    published = Topic(topic, sns)
    published.publish("mine", {"tenant": "acme", "type": "fine_tuning.job.failed"})
    published.publish("another tenant's", {"tenant": "globex", "type": "fine_tuning.job.failed"})
    published.publish("another type", {"tenant": "acme", "type": "budget.warning"})
    assert [message["Body"] for message in received(sqs, queue)] == ["mine"]


def test_a_topic_that_is_gone_refuses(emulator: str) -> None:
    sns = boto3.client("sns", **credentials(emulator))
    with pytest.raises(AwsRefused, match="NotFound"):
        Topic("arn:aws:sns:us-east-1:000000000000:gone", sns).publish("x", {"tenant": "acme", "type": "budget.warning"})


def test_of_a_rotated_secret_the_current_value_counts_and_the_one_before(emulator: str) -> None:
    secrets = boto3.client("secretsmanager", **credentials(emulator))
    made = secrets.create_secret(Name="edge", SecretString="first")
    times = count(0, FRESH)
    secret = RotatedSecret(made["ARN"], secrets, clock=lambda: next(times))
    assert secret.values() == (b"first",)
    secrets.put_secret_value(SecretId=made["ARN"], SecretString="second")
    assert secret.values() == (b"second", b"first")
    secrets.put_secret_value(SecretId=made["ARN"], SecretString="third")
    assert secret.values() == (b"third", b"second")
    previous = next(
        version
        for version, stages in secrets.describe_secret(SecretId=made["ARN"])["VersionIdsToStages"].items()
        if "AWSPREVIOUS" in stages
    )
    label = {"VersionStage": "AWSPREVIOUS", "RemoveFromVersionId": previous}
    secrets.update_secret_version_stage(SecretId=made["ARN"], **label)
    assert secret.values() == (b"third",)


def test_a_rotated_secret_is_read_again_after_a_minute_and_outlives_an_outage() -> None:
    class Secrets:
        calls = 0

        def get_secret_value(self, *, SecretId: str, VersionStage: str) -> dict[str, str]:  # noqa: N803
            self.calls += 1
            if not self.up:
                raise EndpointConnectionError(endpoint_url="https://secretsmanager")
            return {"SecretString": f"{VersionStage} of {SecretId}"}

        up = True

    secrets, now = Secrets(), [0.0]
    secret = RotatedSecret("arn", secrets, clock=lambda: now[0])
    read = (b"AWSCURRENT of arn", b"AWSPREVIOUS of arn")
    assert secret.values() == secret.values() == read
    now[0] = FRESH - 1
    assert (secret.values(), secrets.calls) == (read, 2)
    now[0], secrets.up = FRESH, False
    assert (secret.values(), secrets.calls) == (read, 3)
    with pytest.raises(Unavailable):
        RotatedSecret("arn", secrets).values()


def test_the_secret_is_read_once(emulator: str) -> None:
    secrets = boto3.client("secretsmanager", **credentials(emulator))
    arn = secrets.create_secret(Name="signing", SecretString="first")["ARN"]
    secret = Secret(arn, secrets)
    assert secret.value() == b"first"
    secrets.put_secret_value(SecretId=arn, SecretString="second")
    assert secret.value() == b"first"
    assert Secret(arn, secrets).value() == b"second"
    with pytest.raises(AwsRefused, match="ResourceNotFound"):
        Secret("arn:aws:secretsmanager:us-east-1:000000000000:secret:gone-abcdef", secrets).value()
