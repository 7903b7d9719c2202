"""Each AWS call as a subsegment, sent to a daemon that listens on this machine."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from spotune.aws.tracing import DAEMON, HEADER, parse_header, trace
from spotune.contracts.subject import about

TRACE = "1-5759e988-bd862e3fe1be46a994272793"
SAMPLED = f"Root={TRACE};Parent=53995c3f42cd8ad8;Sampled=1;Lineage=1:a87bd80c:0"


@pytest.fixture
def daemon() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(5)
        yield listening


def address(daemon: socket.socket) -> str:
    host, port = daemon.getsockname()
    return f"{host}:{port}"


def sqs() -> Any:
    return boto3.client("sqs", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")


def received(daemon: socket.socket) -> dict[str, Any]:
    header, _, body = daemon.recv(65_536).decode().partition("\n")
    assert json.loads(header) == {"format": "json", "version": 1}
    document: dict[str, Any] = json.loads(body)
    return document


def send(client: Any, *, refused: bool = False) -> None:
    with Stubber(client) as stub:
        if refused:
            stub.add_client_error("send_message", "ThrottlingException", "slow down: canary", http_status_code=429)
        else:
            stub.add_response("send_message", {"MessageId": "1", "MD5OfMessageBody": "x"})
        client.send_message(QueueUrl="https://sqs.us-east-1.amazonaws.com/1/q", MessageBody="canary")
        stub.assert_no_pending_responses()


def test_a_call_is_a_subsegment_of_the_invocation_with_job_tenant_and_attempt(daemon: socket.socket) -> None:
    client = sqs()
    trace(client, {DAEMON: address(daemon), HEADER: SAMPLED})
    with about(job="ftjob-1", tenant="acme", attempt=2, command="not an annotation"):
        send(client)
    document = received(daemon)
    assert (document["trace_id"], document["parent_id"]) == (TRACE, "53995c3f42cd8ad8")
    assert (document["type"], document["namespace"], document["name"]) == ("subsegment", "aws", "SQS")
    assert document["annotations"] == {"job": "ftjob-1", "tenant": "acme", "attempt": 2}
    assert (document["aws"]["operation"], document["aws"]["region"]) == ("SendMessage", "us-east-1")
    assert document["start_time"] <= document["end_time"]
    assert len(document["id"]) == 16
    assert "canary" not in json.dumps(document)


def test_a_refusal_is_marked_and_quotes_nothing(daemon: socket.socket) -> None:
    client = sqs()
    trace(client, {DAEMON: address(daemon), HEADER: SAMPLED})
    with pytest.raises(client.exceptions.ClientError):
        send(client, refused=True)
    document = received(daemon)
    assert (document["error"], document["throttle"]) == (True, True)
    assert document["http"] == {"response": {"status": 429}}
    assert "canary" not in json.dumps(document)


def test_a_call_without_an_answer_is_a_fault_by_its_class(daemon: socket.socket) -> None:
    client = boto3.client(
        "sqs",
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        endpoint_url="http://127.0.0.1:1",
        config=boto3.session.Config(retries={"total_max_attempts": 1}),
    )
    trace(client, {DAEMON: address(daemon), HEADER: SAMPLED})
    with pytest.raises(Exception, match="Could not connect"):
        client.send_message(QueueUrl="http://127.0.0.1:1/1/q", MessageBody="canary")
    document = received(daemon)
    assert document["fault"] is True
    assert document["cause"]["exceptions"][0]["type"] == "EndpointConnectionError"
    assert document["aws"]["operation"] == "SendMessage"


@pytest.mark.parametrize(
    "environment", [{}, {HEADER: SAMPLED}, {HEADER: SAMPLED, DAEMON: ""}], ids=["nothing", "no daemon", "empty"]
)
def test_without_a_daemon_no_hook_is_set(environment: dict[str, str]) -> None:
    client = sqs()
    trace(client, environment)
    hooks = client.meta.events._emitter._handlers.prefix_search("before-parameter-build.sqs.SendMessage")
    assert not [hook for hook in hooks if "_Calls" in str(hook)]


def test_an_invocation_that_is_not_sampled_sends_nothing(daemon: socket.socket) -> None:
    client, environment = sqs(), {DAEMON: address(daemon), HEADER: SAMPLED.replace("Sampled=1", "Sampled=0")}
    trace(client, environment)
    send(client)
    environment[HEADER] = SAMPLED
    send(client)
    daemon.settimeout(0.2)
    received(daemon)
    with pytest.raises(TimeoutError):
        daemon.recv(65_536)


def test_a_daemon_that_is_away_costs_no_call() -> None:
    client = sqs()
    trace(client, {DAEMON: "127.0.0.1:9", HEADER: SAMPLED})
    send(client)
    send(client)


@pytest.mark.parametrize("header", ["", "Root=1-2-3", "Root=;Parent=1;Sampled=1", "Sampled=1", ";;=;"])
def test_what_is_no_sampled_trace_has_no_parent(header: str) -> None:
    assert parse_header(header) is None
