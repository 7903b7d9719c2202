"""A real CloudFormation (the emulator as a process), the SageMaker double, and installations in them."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.awsrequest import AWSResponse

from spotune.deploy import bundle
from spotune.deploy.account import Account
from spotune.deploy.drawer import Drawer
from spotune.deploy.installation import Installation
from spotune.deploy.settings import Settings
from spotune.local.double.server import DoubleServer
from spotune.local.double.settings import Settings as DoubleSettings
from tests.emulator import running_own_emulator
from tests.local.double.conftest import training_job

REGION, AWAY = "us-east-1", "eu-west-1"
IMAGE = f"000000000000.dkr.ecr.{REGION}.amazonaws.com/spotune-training:1"
EMULATOR = {"EventSource": "spotune.double"}
"""Emulators may not send as aws.*."""
BUCKETS = ("AccessLogsBucket", "ArtifactsBucket", "DataBucket", "ModelsBucket")
"""The emulator says of every property of a bucket that it may have it made anew; AWS says so of its name alone."""
BAD = """
Resources:
  Bad:
    Type: AWS::IAM::Policy
    Properties:
      PolicyName: bad
      Roles: [nobody]
      PolicyDocument: {Version: "2012-10-17", Statement: []}
"""
"""Put in place of the word Resources, it has the deployment of a template fail."""
TYPE = "ml.g5.xlarge"

Make = Callable[..., Installation]


@pytest.fixture(scope="session")
def code(pytestconfig: pytest.Config) -> Path:
    """A bundle for this machine's Python, which is the emulator's."""
    return bundle.build(pytestconfig.cache.mkdir("bundles"))


@pytest.fixture(scope="module")
def aws_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An emulator and a double, by the environment, as commands find them."""
    home = tmp_path_factory.mktemp("account")
    with running_own_emulator(home) as url, pytest.MonkeyPatch.context() as environment, contextlib.ExitStack() as ends:
        server = DoubleServer(DoubleSettings(home=home, emulator_url=url))
        server.start()
        ends.callback(server.stop)
        environment.setenv("AWS_ENDPOINT_URL", url)
        environment.setenv("AWS_ENDPOINT_URL_SAGEMAKER", server.url)
        environment.setenv("AWS_ACCESS_KEY_ID", "test")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
        environment.delenv("AWS_PROFILE", raising=False)
        yield url


@pytest.fixture
def install(aws_url: str) -> Make:
    """An installation by its settings. Each test has a stage of its own."""

    def make(stage: str, **fields: Any) -> Installation:
        said = {"stage": stage, "region": REGION, "image": IMAGE, **fields}
        return Installation(Account(REGION), Settings.model_validate(said), EMULATOR, pause=0.02)

    return make


@pytest.fixture
def aws(aws_url: str) -> Callable[..., Any]:
    """Clients of that account."""
    return lambda service, region=REGION: boto3.client(service, region_name=region)


@pytest.fixture
def waiting_job(aws: Callable[..., Any]) -> Iterator[Callable[..., None]]:
    """Starts a training job for a stage that waits for an instance until it is stopped."""
    started: list[tuple[str, str]] = []
    door = f"{os.environ['AWS_ENDPOINT_URL_SAGEMAKER']}/_double"
    httpx.post(f"{door}/capacity", json={"InstanceType": TYPE, "available": False}, timeout=30).raise_for_status()
    aws("s3").create_bucket(Bucket=f"artifacts-{REGION}")
    there, s3 = {"LocationConstraint": AWAY}, aws("s3", AWAY)
    with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket=f"artifacts-{AWAY}", CreateBucketConfiguration=there)

    def start(name: str, stage: str, region: str = REGION) -> None:
        folder = f"s3://artifacts-{region}/{name}/"
        places = {"OutputDataConfig": {"S3OutputPath": folder}, "CheckpointConfig": {"S3Uri": folder}}
        request = training_job(name, Environment={"SPOTUNE_STAGE": stage}, **places)
        aws("sagemaker", region).create_training_job(**request)
        started.append((name, region))

    yield start
    for name, region in started:
        sagemaker = aws("sagemaker", region)
        if sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"] == "InProgress":
            sagemaker.stop_training_job(TrainingJobName=name)


class Killed(BaseException):
    """What ends a command between two of its steps, past every `except Exception`."""


@contextlib.contextmanager
def killed_after(operation: str, *, number: int = 1) -> Iterator[None]:
    """The command in this context dies once AWS has carried out its so-manieth call of this operation."""
    seen = itertools.count(1)

    def strike(**_: object) -> None:
        if next(seen) == number:
            raise Killed(operation)

    with listening(f"after-call.*.{operation}", strike), pytest.raises(Killed):
        yield


@contextlib.contextmanager
def answering(operation: str, code: str) -> Iterator[None]:
    """In this context AWS answers every call of this operation with this error."""
    error = {"Error": {"Code": code, "Message": "so told"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    with listening(f"before-call.*.{operation}", lambda **_: (AWSResponse("", 403, {}, None), error)):
        yield


@contextlib.contextmanager
def listening(event: str, listener: Callable[..., object]) -> Iterator[None]:
    """In this context every client of ours has this listener for botocore's event."""
    made = boto3.Session.client

    def client(self: boto3.Session, *arguments: Any, **named: Any) -> Any:
        client = made(self, *arguments, **named)
        client.meta.events.register(event, listener)
        return client

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boto3.Session, "client", client)
        yield


def drawer_of(installation: Installation) -> Drawer:
    """The code bucket of an installation that is, or was, deployed."""
    drawer = installation.drawer
    assert drawer is not None
    return drawer


def ask(aws_url: str, outputs: Mapping[str, str], key: str) -> int:
    """Status of a request to a deployed API."""
    return asked(aws_url, outputs, key, "files").status_code


def asked(aws_url: str, outputs: Mapping[str, str], key: str, path: str) -> httpx.Response:
    """A deployed API's answer to a request for a list."""
    url = f"{aws_url}/_aws/execute-api/{outputs['ApiId']}/$default/v1/{path}"
    return httpx.get(url, headers={"Authorization": f"Bearer {key}"}, timeout=60, trust_env=False)
