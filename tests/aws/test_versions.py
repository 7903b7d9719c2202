"""Versions of objects, and objects written as they are made: the twin and S3 held to the same behaviour."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import boto3
import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber
from urllib3.exceptions import ProtocolError

from spotune.aws.base import ObjectInfo, ObjectMissing, ObjectStore
from spotune.aws.clients import client
from spotune.aws.memory_objects import MemoryObjects
from spotune.aws.objects import STREAMED_PART_BYTES, Objects

AWKWARD = "in/a b+c%20d é#?.jsonl"


@pytest.fixture(params=["memory", "s3"])
def objects(request: pytest.FixtureRequest, bucket: str, versionless: str) -> ObjectStore:
    """Two buckets: one that keeps versions, one that keeps none."""
    if request.param == "memory":
        return MemoryObjects(versionless={versionless})
    client("s3").put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return Objects()


@pytest.fixture
def versionless(aws: str, bucket: str) -> str:
    name = f"{bucket}-plain"
    client("s3").create_bucket(Bucket=name)
    return name


def written(objects: ObjectStore, uri: str, body: bytes) -> ObjectInfo:
    objects.write(uri, body)
    info = objects.head(uri)
    assert info is not None
    return info


def body_of(chunks: Iterator[bytes]) -> bytes:
    return b"".join(chunks)


def test_each_version_is_read_as_it_was_however_the_key_went_on(objects: ObjectStore, bucket: str) -> None:
    uri = f"s3://{bucket}/{AWKWARD}"
    first, second = written(objects, uri, b"one"), written(objects, uri, b"second")
    objects.delete(uri)
    assert objects.head(uri) is None
    assert first.version_id != second.version_id != ""
    for info, body in ((first, b"one"), (second, b"second")):
        assert body_of(objects.stream(uri, version_id=info.version_id)) == body
        assert objects.head(uri, version_id=info.version_id) == info


def test_a_version_that_never_was_is_missing(objects: ObjectStore, bucket: str) -> None:
    uri = f"s3://{bucket}/a"
    info = written(objects, f"s3://{bucket}/another", b"1")
    objects.write(uri, b"2")
    assert objects.head(uri, version_id=info.version_id) is None
    with pytest.raises(ObjectMissing):
        objects.stream(uri, version_id=info.version_id)


def test_a_delete_marker_has_no_bytes(objects: ObjectStore, bucket: str) -> None:
    uri = f"s3://{bucket}/a"
    objects.write(uri, b"1")
    objects.delete(uri)
    marker = next(iter(objects.versions(uri)))
    assert (marker.latest, marker.deleted) == (True, True)
    assert objects.head(uri, version_id=marker.info.version_id) is None
    with pytest.raises(ObjectMissing):
        objects.stream(uri, version_id=marker.info.version_id)


def test_a_bucket_without_versions_shows_none_and_is_pinned_by_its_etag(objects: ObjectStore, versionless: str) -> None:
    uri = f"s3://{versionless}/a"
    first = written(objects, uri, b"one")
    assert first.version_id == ""
    assert body_of(objects.stream(uri, etag=first.etag)) == b"one"
    objects.write(uri, b"two")
    with pytest.raises(ObjectMissing, match="changed"):
        objects.stream(uri, etag=first.etag)


def test_a_history_has_every_version_in_the_order_of_keys_the_latest_first(objects: ObjectStore, bucket: str) -> None:
    folder = f"s3://{bucket}/in/"
    old, new = written(objects, f"{folder}b", b"1"), written(objects, f"{folder}b", b"22")
    gone = written(objects, f"{folder}c d+e", b"3")
    objects.delete(gone.uri)
    alone = written(objects, f"{folder}a", b"4")
    objects.write(f"s3://{bucket}/other", b"5")
    seen = list(objects.versions(folder))
    assert [(one.info.uri, one.latest, one.deleted) for one in seen] == [
        (alone.uri, True, False),
        (new.uri, True, False),
        (old.uri, False, False),
        (gone.uri, True, True),
        (gone.uri, False, False),
    ]
    shown = [(one.info.etag, one.info.bytes, one.info.version_id) for one in seen if not one.deleted]
    assert shown == [(one.etag, one.bytes, one.version_id) for one in (alone, new, old, gone)]
    assert [one.info.uri for one in objects.versions(folder, after=new.uri)] == [gone.uri, gone.uri]


def test_a_history_without_versions_is_what_is_there(objects: ObjectStore, versionless: str) -> None:
    first = written(objects, f"s3://{versionless}/a", b"1")
    objects.write(f"s3://{versionless}/b", b"2")
    objects.delete(f"s3://{versionless}/b")
    (seen,) = objects.versions(f"s3://{versionless}/")
    assert (seen.info.uri, seen.info.etag, seen.info.version_id) == (first.uri, first.etag, "")
    assert (seen.latest, seen.deleted) == (True, False)


@pytest.mark.parametrize("size", [0, 5, STREAMED_PART_BYTES, STREAMED_PART_BYTES + 1])
def test_what_is_written_as_it_is_made_is_there_whole(objects: ObjectStore, bucket: str, size: int) -> None:
    uri = f"s3://{bucket}/a"
    objects.write_stream(uri, (b"x" * min(1_000_000, size - at) for at in range(0, size, 1_000_000)))
    assert objects.read(uri) == b"x" * size


def test_what_breaks_off_while_it_is_made_is_not_there(objects: ObjectStore, bucket: str) -> None:
    def breaking() -> Iterator[bytes]:
        yield b"x" * (STREAMED_PART_BYTES + 1)
        raise ValueError("torn")

    uri = f"s3://{bucket}/a"
    objects.write(uri, b"before")
    with pytest.raises(ValueError, match="torn"):
        objects.write_stream(uri, breaking())
    assert objects.read(uri) == b"before"


def test_a_stream_is_written_in_constant_memory(aws: str, bucket: str) -> None:
    tracemalloc.start()
    Objects().write_stream(f"s3://{bucket}/a", (bytes(1024**2) for _ in range(80)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * STREAMED_PART_BYTES
    assert client("s3").list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []


@pytest.fixture
def s3() -> Any:
    return boto3.client("s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")


class TestAnswers:
    """S3's answers that an emulator does not give, recorded."""

    def test_histories_of_several_pages_are_whole(self, s3: Any) -> None:
        def page(key: str, **more: Any) -> dict[str, Any]:
            entry = {"Key": key, "Size": 1, "ETag": '"e"', "LastModified": datetime.now(UTC), "VersionId": "v"}
            return {"Versions": [{**entry, "IsLatest": True}], **more}

        with Stubber(s3) as stub:
            first = {"Bucket": "b", "Prefix": "p"}
            markers = {"NextKeyMarker": "p1", "NextVersionIdMarker": "v"}
            stub.add_response("list_object_versions", page("p1", IsTruncated=True, **markers), first)
            stub.add_response("list_object_versions", page("p2"), {**first, "KeyMarker": "p1", "VersionIdMarker": "v"})
            assert [one.info.uri for one in Objects(s3).versions("s3://b/p")] == ["s3://b/p1", "s3://b/p2"]

    def test_a_suspended_bucket_keeps_no_version_of_what_is_written_now(self, s3: Any) -> None:
        with Stubber(s3) as stub:
            answer = {"ContentLength": 1, "ETag": '"e"', "LastModified": datetime.now(UTC), "VersionId": "null"}
            stub.add_response("head_object", answer)
            assert Objects(s3).head("s3://b/k").version_id == ""  # type: ignore[union-attr]

    def test_a_stream_of_a_version_that_breaks_goes_on_with_the_same_version(self, s3: Any) -> None:
        def answer(body: bytes, total: int, raw: type[BytesIO]) -> dict[str, Any]:
            return {"Body": StreamingBody(raw(body), total), "ContentLength": total, "ETag": '"e1"'}

        class Torn(BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                if body := super().read(size):
                    return body
                raise ProtocolError("connection broken")

        asked = {"Bucket": "b", "Key": "k", "VersionId": "v1"}
        with Stubber(s3) as stub:
            stub.add_response("get_object", answer(b"one", 6, Torn), asked)
            again = {**asked, "Range": "bytes=3-", "IfMatch": '"e1"'}
            stub.add_response("get_object", answer(b"two", 3, BytesIO), again)
            assert body_of(Objects(s3).stream("s3://b/k", version_id="v1")) == b"onetwo"
