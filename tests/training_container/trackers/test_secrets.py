"""Keys from Secrets Manager: read inside the container, and nowhere to be found afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from spotune.contracts.training import HOME_REGION_VARIABLE
from tests.training_container.trackers.conftest import Begin
from tests.training_container.trackers.reading import offline_runs
from tests.training_container.trackers.servers import MLflowServer, nobody
from training_container.trackers.tracker import Ending

pytestmark = pytest.mark.torch

KEY = "0123456789abcdef0123456789abcdef01234567"
PUBLISHED = Ending("published", {}, ())


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Secrets Manager of eu-west-1, the installation's home; the job runs in us-east-1."""
    environment = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        HOME_REGION_VARIABLE: "eu-west-1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with mock_aws():
        yield boto3.client("secretsmanager", region_name="eu-west-1")


def test_mlflow_gets_its_token_and_no_file_has_it(
    begin: Begin, server: MLflowServer, secrets: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    secrets.create_secret(Name="spotune/test/trackers/acme/mlflow", SecretString=KEY)
    trackers = begin({"type": "mlflow", "server": server.address, "secret": "spotune/test/trackers/acme/mlflow"})
    trackers.log(1, {"train_loss": 1.0})
    assert trackers.settle() == ()
    trackers.end(PUBLISHED, 20)
    assert server.tokens == {f"Bearer {KEY}"}
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert KEY not in "".join(capfd.readouterr())


def test_a_user_and_a_password_are_a_json_object(begin: Begin, server: MLflowServer, secrets: Any) -> None:
    secrets.create_secret(Name="pair", SecretString=json.dumps({"username": "ann", "password": "pw"}))
    trackers = begin({"type": "mlflow", "server": server.address, "secret": "pair"})
    assert trackers.settle() == ()
    trackers.end(PUBLISHED, 20)
    assert server.tokens == {"Basic YW5uOnB3"}


def test_without_its_secret_mlflow_is_left_out_and_wandb_kept_offline(
    begin: Begin, server: MLflowServer, secrets: Any, tmp_path: Path
) -> None:
    trackers = begin(
        {"type": "mlflow", "server": server.address, "secret": "gone"},
        {"type": "wandb", "project": "p", "secret": "gone"},
    )
    trackers.log(1, {"train_loss": 1.0})
    warnings = trackers.settle()
    reason = "the secret gone cannot be read: ResourceNotFoundException"
    assert f"Tracker mlflow: {reason}." in warnings
    assert f"Tracker wandb: {reason}; the run is kept offline." in warnings
    trackers.end(PUBLISHED, 20)
    assert server.tokens == set()
    assert len(offline_runs(tmp_path / "ml" / "checkpoints" / "trackers" / "wandb")) == 1


def test_a_server_that_quotes_the_key_does_not_bring_it_into_the_report(
    begin: Begin, secrets: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training_container.trackers import sending

    def quoting(config: object, secret: str, facts: object) -> None:
        raise RuntimeError(f"401 for token {secret}")

    secrets.create_secret(Name="mine", SecretString=KEY)
    monkeypatch.setattr(sending, "connect", quoting)
    trackers = begin({"type": "mlflow", "server": nobody(), "secret": "mine"})
    (said,) = trackers.settle()
    assert said == "Tracker mlflow: RuntimeError: 401 for token ***."


def test_secrets_manager_that_does_not_answer_is_asked_again(
    begin: Begin, server: MLflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETSMANAGER", nobody())
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv(HOME_REGION_VARIABLE, "eu-west-1")
    trackers = begin({"type": "mlflow", "server": server.address, "secret": "mine"}, pauses=(60.0,))
    trackers.log(1, {"train_loss": 1.0})
    said, missing = trackers.settle()
    assert "Could not connect" in said
    assert missing == "Tracker mlflow: 1 points were not delivered when the report was written."
    trackers.end(PUBLISHED, 20)
