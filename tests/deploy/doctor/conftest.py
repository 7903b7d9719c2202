"""An account to look at: the emulator, and the double beside it as Service Quotas."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from spotune.aws import clients
from spotune.local.double.server import DoubleServer
from spotune.local.double.settings import Settings
from tests.emulator import credentials, running_emulator

SERVICES = "budgets,cloudformation,cloudwatch,ec2,ecr,iam,kms,lambda,s3,sns,sts"
REGION = "us-east-1"


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_emulator(tmp_path_factory.mktemp("account"), SERVICES) as url:
        yield url


@pytest.fixture(scope="session")
def double(emulator: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DoubleServer]:
    server = DoubleServer(Settings(home=tmp_path_factory.mktemp("double"), emulator_url=emulator))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def account(emulator: str, double: DoubleServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The environment of a person whose AWS this is; gives clients by service."""
    given = credentials(emulator)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", emulator)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SERVICE_QUOTAS", double.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", given["aws_access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", given["aws_secret_access_key"])
    clients.client.cache_clear()
    yield lambda service: clients.client(service, REGION)
    clients.client.cache_clear()
