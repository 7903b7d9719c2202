"""A hub, a model on it, and a bucket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from spotune.mirror.bucket import ModelsBucket
from spotune.mirror.hub import Hub
from tests.mirror.hub import FakeHub, serving


class Pauses(list[float]):
    """Time that passes at once."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """The hub as it is out there."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as hub:
        yield hub


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def hub(far: FakeHub, pauses: Pauses) -> Iterator[Hub]:
    """Our way to it, without a token."""
    with Hub(far.address, pause=pauses) as made:
        yield made


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="models")
        client.put_bucket_versioning(Bucket="models", VersioningConfiguration={"Status": "Enabled"})
        yield client


@pytest.fixture
def bucket(s3: Any) -> ModelsBucket:
    return ModelsBucket(s3, "models")


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return tmp_path / "disk"
