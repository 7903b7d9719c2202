"""ECR, as moto stands in for it: a repository whose tags never move, and an image named by its digest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from spotune.contracts.errors import NotAuthenticated, SpotuneError, Unavailable
from spotune.deploy.account import Account
from spotune.deploy.image.builders import NAME, Builder
from spotune.deploy.image.registry import Registry, push
from spotune.deploy.settings import Settings

ACCOUNT = Account("eu-west-1")
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
REFERENCE = f"localhost/{NAME}:1.0-cuda-abc"


@pytest.fixture
def ecr(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        yield boto3.client("ecr", region_name="eu-west-1")


class Sender(Builder):
    """A builder whose push arrives, or gets lost."""

    __slots__ = ("arrives", "ecr", "refused", "sent")

    def __init__(self, ecr: Any, *, arrives: bool = True, refused: bool = False) -> None:
        super().__init__("buildah", "buildah")
        for name, value in (("ecr", ecr), ("arrives", arrives), ("refused", refused), ("sent", [])):
            object.__setattr__(self, name, value)

    def push(self, reference: str, target: str, registry: str, password: str, *, secure: bool = True) -> None:
        self.sent.append((reference, target, registry, bool(password)))
        if self.arrives:
            manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": {"digest": "sha256:1"}, "layers": []}
            tag = target.rpartition(":")[2]
            self.ecr.put_image(repositoryName=NAME, imageManifest=json.dumps(manifest), imageTag=tag)
        if self.refused:
            raise SpotuneError("buildah push ended with exit code 125.", code="push_failed")


def test_the_repository_is_made_once_scanned_on_push_with_tags_that_never_move(ecr: Any) -> None:
    address = Registry(ACCOUNT).repository()
    assert Registry(ACCOUNT).repository() == address
    (made,) = ecr.describe_repositories()["repositories"]
    assert (made["imageTagMutability"], made["imageScanningConfiguration"]) == ("IMMUTABLE", {"scanOnPush": True})
    assert made["encryptionConfiguration"]["encryptionType"] == "AES256"


def test_a_repository_is_encrypted_with_the_installations_key(ecr: Any) -> None:
    key = "arn:aws:kms:eu-west-1:123456789012:key/1"
    Registry(ACCOUNT, key=key).repository()
    (made,) = ecr.describe_repositories()["repositories"]
    assert made["encryptionConfiguration"] == {"encryptionType": "KMS", "kmsKey": key}


def test_an_image_is_sent_once_and_named_by_the_digest_that_the_registry_has(ecr: Any) -> None:
    builder = Sender(ecr)
    first = push(builder, REFERENCE, Registry(ACCOUNT))
    digest = Registry(ACCOUNT).digest("1.0-cuda-abc")
    host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
    assert (first.uri, first.sent) == (f"{host}/{NAME}@{digest}", True)
    again = push(builder, REFERENCE, Registry(ACCOUNT))
    assert (again.uri, again.sent) == (first.uri, False)
    assert builder.sent == [(REFERENCE, f"{host}/{NAME}:1.0-cuda-abc", host, True)]
    # The settings take it as it is.
    assert Settings(region="eu-west-1", image=first.uri).image == first.uri


def test_a_push_that_did_not_arrive_is_no_success(ecr: Any) -> None:
    with pytest.raises(Unavailable) as lost:
        push(Sender(ecr, arrives=False), REFERENCE, Registry(ACCOUNT))
    assert lost.value.code == "image_not_found"


def test_of_two_that_push_at_the_same_time_the_second_takes_what_the_first_has_sent(ecr: Any) -> None:
    pushed = push(Sender(ecr, refused=True), REFERENCE, Registry(ACCOUNT))
    assert (pushed.sent, pushed.uri.rpartition("@")[2]) == (False, Registry(ACCOUNT).digest("1.0-cuda-abc"))
    with pytest.raises(SpotuneError) as failed:
        push(Sender(ecr, arrives=False, refused=True), "localhost/spotune-training:2", Registry(ACCOUNT))
    assert failed.value.code == "push_failed"


def test_of_two_that_make_the_repository_at_the_same_time_both_have_it(
    ecr: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ecr.create_repository(repositoryName=NAME)["repository"]["repositoryUri"]
    registry, answers = Registry(ACCOUNT), iter([None, made])
    monkeypatch.setattr(registry, "_described", lambda: next(answers))
    assert registry.repository() == made


def test_expired_credentials_are_said_to_be_expired(ecr: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def expired(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "ExpiredTokenException", "Message": "expired"}}, "DescribeRepositories")

    registry = Registry(ACCOUNT)
    monkeypatch.setattr(registry._ecr, "describe_repositories", expired)
    with pytest.raises(NotAuthenticated) as refused:
        registry.repository()
    assert refused.value.code == "aws_credentials_expired"
