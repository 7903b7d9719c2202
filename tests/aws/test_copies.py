"""Copies within S3, from region to region: the twin in memory and S3 (an emulator) held to the same behaviour."""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Callable
from typing import Any

import boto3
import pytest

from spotune.aws import objects as s3_objects
from spotune.aws.base import ObjectInfo, ObjectMissing, ObjectStore, SourceChanged
from spotune.aws.clients import client
from spotune.aws.memory_objects import MemoryObjects
from spotune.aws.objects import Objects
from spotune.aws.parts import MAX_COPIED_PARTS, copied_parts
from spotune.aws.training_jobs import TrainingJobs
from spotune.contracts.errors import Unavailable
from tests.emulator import credentials

PART = 5 * 1024**2
AWAY = "eu-west-1"


@pytest.fixture(params=["memory", "s3"])
def objects(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, far_bucket: str) -> ObjectStore:
    monkeypatch.setattr(s3_objects, "CARRIED_PART_BYTES", PART)
    monkeypatch.setattr(MemoryObjects, "copy_part_bytes", PART)
    return MemoryObjects() if request.param == "memory" else Objects(regions={far_bucket: AWAY})


@pytest.fixture
def far_bucket(aws: str) -> str:
    """A bucket in another region, made by a client of that region."""
    name = f"far-{uuid.uuid4().hex[:8]}"
    s3 = boto3.client("s3", **(credentials(aws) | {"region_name": AWAY}))
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": AWAY})
    return name


def always() -> bool:
    return True


def for_parts(count: int) -> Callable[[], bool]:
    """Time for so many parts. The first question is whether to begin at all."""
    lock, left = threading.Lock(), [count + 1]

    def more_time() -> bool:
        with lock:
            left[0] -= 1
            return left[0] >= 0

    return more_time


def put(objects: ObjectStore, uri: str, body: bytes) -> ObjectInfo:
    objects.write(uri, body)
    found = objects.head(uri)
    assert found is not None
    return found


class TestContract:
    def test_a_small_object_arrives_whole(self, objects: ObjectStore, bucket: str, far_bucket: str) -> None:
        source = put(objects, f"s3://{bucket}/acme/a b+ü.jsonl", b"rows")
        target = f"s3://{far_bucket}/acme/copies/x/a b+ü.jsonl"
        assert objects.carry(source, target, always) is True
        assert objects.read(target) == b"rows"
        assert objects.head(target).etag == source.etag  # type: ignore[union-attr]

    def test_an_empty_object_arrives_too(self, objects: ObjectStore, bucket: str, far_bucket: str) -> None:
        source = put(objects, f"s3://{bucket}/empty", b"")
        assert objects.carry(source, f"s3://{far_bucket}/empty", always)
        assert objects.read(f"s3://{far_bucket}/empty") == b""

    def test_a_large_object_arrives_in_parts_over_several_slices(
        self, objects: ObjectStore, bucket: str, far_bucket: str
    ) -> None:
        body = b"".join(bytes([number]) * PART for number in range(4)) + b"tail"
        source = put(objects, f"s3://{bucket}/model", body)
        target = f"s3://{far_bucket}/model"
        assert objects.carry(source, target, for_parts(2)) is False
        assert objects.head(target) is None
        assert objects.carry(source, target, for_parts(1)) is False
        assert objects.carry(source, target, always) is True
        assert objects.read(target) == body

    def test_a_source_that_was_replaced_or_deleted_is_not_copied(
        self, objects: ObjectStore, bucket: str, far_bucket: str
    ) -> None:
        source = put(objects, f"s3://{bucket}/a", b"one")
        objects.write(source.uri, b"two")
        with pytest.raises(SourceChanged):
            objects.carry(source, f"s3://{far_bucket}/a", always)
        objects.delete(source.uri)
        with pytest.raises(SourceChanged):
            objects.carry(source, f"s3://{far_bucket}/a", always)
        assert objects.head(f"s3://{far_bucket}/a") is None

    def test_a_source_that_was_replaced_between_two_slices_is_not_copied(
        self, objects: ObjectStore, bucket: str, far_bucket: str
    ) -> None:
        source = put(objects, f"s3://{bucket}/a", bytes(3 * PART))
        assert objects.carry(source, f"s3://{far_bucket}/a", for_parts(1)) is False
        objects.write(source.uri, bytes(3 * PART - 1))
        with pytest.raises(SourceChanged):
            objects.carry(source, f"s3://{far_bucket}/a", always)
        assert objects.head(f"s3://{far_bucket}/a") is None

    def test_what_is_written_as_new_is_never_replaced(self, objects: ObjectStore, bucket: str) -> None:
        uri = f"s3://{bucket}/inputs.json"
        assert objects.write_new(uri, b"first") is True
        assert objects.write_new(uri, b"second") is False
        assert objects.read(uri) == b"first"


class TestS3:
    def test_no_part_is_copied_twice(self, bucket: str, far_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(s3_objects, "CARRIED_PART_BYTES", PART)
        asked: list[int] = []
        client("s3", AWAY).meta.events.register(
            "provide-client-params.s3.UploadPartCopy", lambda params, **_: asked.append(params["PartNumber"])
        )
        objects = Objects(regions={far_bucket: AWAY})
        source = put(objects, f"s3://{bucket}/model", bytes(6 * PART))
        target = f"s3://{far_bucket}/model"
        for parts in (2, 0, 1, 6):
            objects.carry(source, target, for_parts(parts))
        assert sorted(asked) == [1, 2, 3, 4, 5, 6]
        found: Any = client("s3", AWAY).list_multipart_uploads(Bucket=far_bucket)
        assert not found.get("Uploads")

    def test_a_copy_that_another_one_completed_meanwhile_is_done(
        self, bucket: str, far_bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(s3_objects, "CARRIED_PART_BYTES", PART)
        objects = Objects(regions={far_bucket: AWAY})
        source = put(objects, f"s3://{bucket}/model", bytes(2 * PART))
        target = f"s3://{far_bucket}/model"
        complete = objects.complete_upload

        def twice(uri: str, upload_id: str) -> None:
            complete(uri, upload_id)
            complete(uri, upload_id)

        monkeypatch.setattr(objects, "complete_upload", twice)
        assert objects.carry(source, target, always) is True
        assert objects.head(target).bytes == 2 * PART  # type: ignore[union-attr]

    def test_a_copy_of_another_size_is_deleted_and_an_error(
        self, bucket: str, far_bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        objects = Objects(regions={far_bucket: AWAY})
        source = put(objects, f"s3://{bucket}/a", b"rows")
        target = f"s3://{far_bucket}/a"
        monkeypatch.setattr(objects, "_copy_call", lambda *_, **__: objects.write(target, b"ro"))
        with pytest.raises(Unavailable) as damaged:
            objects.carry(source, target, always)
        assert damaged.value.code == "copy_damaged"
        assert objects.head(target) is None

    def test_a_copy_with_other_bytes_of_the_same_size_is_deleted_too(
        self, bucket: str, far_bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        objects = Objects(regions={far_bucket: AWAY})
        source = put(objects, f"s3://{bucket}/a", b"rows")
        target = f"s3://{far_bucket}/a"
        monkeypatch.setattr(objects, "_copy_call", lambda *_, **__: objects.write(target, b"swor"))
        with pytest.raises(Unavailable):
            objects.carry(source, target, always)

    def test_a_region_without_its_buckets_is_said(self, bucket: str) -> None:
        objects = Objects(regions={"far-that-is-not": AWAY})
        source = put(objects, f"s3://{bucket}/a", b"rows")
        with pytest.raises(ObjectMissing) as missing:
            objects.carry(source, "s3://far-that-is-not/a", always)
        assert missing.value.reason == "NoSuchBucket"

    def test_each_bucket_is_asked_in_its_own_region(self, bucket: str, far_bucket: str) -> None:
        signed: list[str] = []
        for region in (None, AWAY):
            s3 = client("s3", region) if region else client("s3")
            s3.meta.events.register(
                "before-send.s3.PutObject", lambda request, **_: signed.append(str(request.headers["Authorization"]))
            )
        objects = Objects(regions={far_bucket: AWAY})
        objects.write(f"s3://{bucket}/region-of-home", b"1")
        objects.write(f"s3://{far_bucket}/region-of-its-own", b"1")
        assert "/us-east-1/s3/" in signed[0]
        assert "/eu-west-1/s3/" in signed[1]


def test_parts_cover_every_byte_once_and_are_never_more_than_s3_takes() -> None:
    for total in (1, 9, 10, 11, 10 * MAX_COPIED_PARTS + 1, 5 * 1024**4):
        parts = copied_parts(total, 10)
        assert len(parts) <= MAX_COPIED_PARTS
        assert list(parts) == list(range(1, len(parts) + 1))
        edges = list(parts.values())
        assert edges[0][0] == 0
        assert edges[-1][1] == total - 1
        assert all(before[1] + 1 == after[0] for before, after in itertools.pairwise(edges))


def test_a_training_job_of_another_region_is_asked_for_there(aws: str) -> None:
    assert TrainingJobs(region=AWAY)._sagemaker.meta.region_name == AWAY
    assert TrainingJobs()._sagemaker.meta.region_name == "us-east-1"
