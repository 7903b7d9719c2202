from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from spotune.aws import clients
from tests.emulator import credentials, running_emulator


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_emulator(tmp_path_factory.mktemp("emulator"), "s3,sqs") as url:
        yield url


@pytest.fixture(scope="module")
def aws(emulator: str) -> Iterator[str]:
    """The environment of a handler whose AWS is the emulator."""
    settings = credentials(emulator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boto3, "DEFAULT_SESSION", None)
        patch.setenv("AWS_ENDPOINT_URL", emulator)
        patch.setenv("AWS_DEFAULT_REGION", settings["region_name"])
        patch.setenv("AWS_ACCESS_KEY_ID", settings["aws_access_key_id"])
        patch.setenv("AWS_SECRET_ACCESS_KEY", settings["aws_secret_access_key"])
        clients.client.cache_clear()
        yield emulator
    clients.client.cache_clear()


@pytest.fixture
def bucket(aws: str) -> str:
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    s3: Any = clients.client("s3")
    s3.create_bucket(Bucket=name)
    return name
