from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from botocore.exceptions import ConnectionClosedError, EndpointConnectionError, ReadTimeoutError

from spotune.aws.clients import call, client
from spotune.contracts.errors import Unavailable
from spotune.service.reconcile import BEGINNING
from tests.infra.test_template import FUNCTIONS, RESOURCES


def test_importing_the_edges_does_not_import_boto3() -> None:
    code = (
        "import sys, spotune.aws.objects, spotune.aws.training_jobs, spotune.aws.queue, spotune.aws.memory;"
        "sys.exit('boto3' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_importing_what_the_service_needs_does_not_import_botocore() -> None:
    code = "import sys, spotune.aws.base, spotune.store.memory; sys.exit('botocore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_client_is_made_once(aws: str) -> None:
    assert client("sqs") is client("sqs")
    assert client("sqs").meta.endpoint_url == aws


@pytest.mark.parametrize("failure", [EndpointConnectionError, ReadTimeoutError, ConnectionClosedError])
def test_no_answer_is_unavailable(failure: Any) -> None:
    def fails(**_: Any) -> Any:
        raise failure(endpoint_url="http://aws")

    with pytest.raises(Unavailable) as refused:
        call(fails)
    assert refused.value.code == "aws_unavailable"


@pytest.fixture
def silent() -> Iterator[tuple[str, list[socket.socket]]]:
    """The address of what takes connections and says nothing, and those that it took."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def take() -> None:
            with suppress(OSError):
                while True:
                    taken.append(server.accept()[0])

        threading.Thread(target=take, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", taken
        server.shutdown(socket.SHUT_RDWR)
    for one in taken:
        one.close()


def test_a_hasty_client_asks_a_table_that_hangs_once(
    aws: str, silent: tuple[str, list[socket.socket]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, taken = silent
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", url)
    client.cache_clear()
    with pytest.raises(Unavailable):
        call(client("dynamodb", hasty=True).get_item, TableName="t", Key={"pk": {"S": "a"}})
    assert len(taken) == 1


ASKED = [*(("ApiFunction", service) for service in ("dynamodb", "s3", "secretsmanager", "sqs"))]
ASKED.append(("KeysFunction", "dynamodb"))


@pytest.mark.parametrize(("function", "service"), ASKED)
def test_a_service_that_hangs_is_given_up_while_there_is_time_to_answer(
    aws: str, monkeypatch: pytest.MonkeyPatch, function: str, service: str
) -> None:
    for name, value in FUNCTIONS[function].get("Environment", {}).get("Variables", {}).items():
        monkeypatch.setenv(name, str(value))
    client.cache_clear()
    end_of_audit = longest(client("dynamodb", hasty=True))
    gateway = RESOURCES["ApiIntegration"]["Properties"]["TimeoutInMillis"] / 1000
    assert end_of_audit <= 2
    assert longest(client(service)) + end_of_audit <= min(FUNCTIONS[function]["Timeout"], gateway) - 2


@pytest.mark.parametrize(
    ("function", "begun", "service"),
    [
        *(("ReconcileFunction", BEGINNING, service) for service in ("dynamodb", "s3", "sagemaker", "sqs")),
        *(("TrainingChangedFunction", 0, service) for service in ("s3", "sagemaker")),
    ],
)
def test_what_a_region_that_hangs_is_asked_last_is_given_up_before_the_function_is(
    aws: str, monkeypatch: pytest.MonkeyPatch, function: str, begun: float, service: str
) -> None:
    for name, value in FUNCTIONS[function].get("Environment", {}).get("Variables", {}).items():
        monkeypatch.setenv(name, str(value))
    client.cache_clear()
    assert begun + longest(client(service)) <= FUNCTIONS[function]["Timeout"] - 2


def longest(made: Any) -> float:
    """Seconds that a call of a client may take, with the pauses of botocore's standard mode: 1 s at most, then 2 ..."""
    config = made.meta.config
    tries = config.retries["total_max_attempts"]
    return float(tries * (config.connect_timeout + config.read_timeout) + sum(2**n for n in range(tries - 1)))
