"""Objects as the service uses them: the twin in memory and S3 (an emulator) held to the same behaviour."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import boto3
import httpx
import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber
from urllib3.exceptions import ProtocolError

from spotune.aws.base import AwsRefused, ObjectMissing, ObjectStore
from spotune.aws.clients import client
from spotune.aws.memory_objects import MemoryObjects
from spotune.aws.objects import CHUNK_BYTES, REOPENINGS, Objects
from spotune.aws.parts import MAX_PARTS, MIN_PART_BYTES, part_bytes
from spotune.contracts.errors import Unavailable

PART = 5 * 1024**2
"""S3's smallest part but the last."""

LARGEST_PART = 5 * 1024**3


@pytest.fixture(params=["memory", "s3"])
def objects(request: pytest.FixtureRequest) -> ObjectStore:
    return MemoryObjects() if request.param == "memory" else Objects()


def put_part(objects: ObjectStore, uri: str, upload_id: str, number: int, body: bytes) -> None:
    """What a client of ours does: a plain PUT to the presigned URL, with no header of AWS's."""
    if isinstance(objects, MemoryObjects):
        objects.put_part(uri, upload_id, number, body)
        return
    answer = httpx.put(objects.presign_part(uri, upload_id, number, 600), content=body, timeout=30)
    assert answer.status_code == 200, answer.text


def marks_of(objects: ObjectStore, uri: str) -> dict[str, str]:
    if isinstance(objects, MemoryObjects):
        return dict([objects.marks[uri]] if uri in objects.marks else [])
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return {tag["Key"]: tag["Value"] for tag in client("s3").get_object_tagging(Bucket=bucket, Key=key)["TagSet"]}


class TestContract:
    def test_what_is_written_is_read_streamed_and_described(self, objects: ObjectStore, bucket: str) -> None:
        uri = f"s3://{bucket}/acme/files/file-a/a b+c.jsonl"
        body = b"x" * (CHUNK_BYTES + 1)
        objects.write(uri, body)
        assert objects.read(uri) == body
        assert b"".join(objects.stream(uri)) == body
        info = objects.head(uri)
        assert info is not None
        assert (info.uri, info.bytes) == (uri, len(body))
        assert info.modified > 1_700_000_000
        assert '"' not in info.etag

    def test_a_mark_is_put_on_what_is_there_and_a_copy_has_none(self, objects: ObjectStore, bucket: str) -> None:
        uri, copy = f"s3://{bucket}/checkpoint", f"s3://{bucket}/copy"
        objects.write(uri, b"weights")
        for value in ("running", "ended"):
            objects.mark(uri, "spotune-job", value)
        objects.copy(uri, copy)
        assert marks_of(objects, uri) == {"spotune-job": "ended"}
        assert marks_of(objects, copy) == {}
        with pytest.raises(ObjectMissing):
            objects.mark(f"s3://{bucket}/nothing", "spotune-job", "ended")

    def test_an_empty_object_is_an_object(self, objects: ObjectStore, bucket: str) -> None:
        objects.write(f"s3://{bucket}/empty", b"")
        assert objects.read(f"s3://{bucket}/empty") == b""
        assert objects.head(f"s3://{bucket}/empty") is not None

    def test_a_missing_object_is_missing_before_the_first_chunk(self, objects: ObjectStore, bucket: str) -> None:
        uri = f"s3://{bucket}/none"
        assert objects.head(uri) is None
        with pytest.raises(ObjectMissing):
            objects.read(uri)
        with pytest.raises(ObjectMissing):
            objects.stream(uri)

    def test_what_is_no_uri_is_named(self, objects: ObjectStore, bucket: str) -> None:
        with pytest.raises(ValueError, match="not an s3://"):
            objects.read("/etc/passwd")

    def test_a_listing_holds_the_prefix_and_nothing_else(self, objects: ObjectStore, bucket: str) -> None:
        for key in ("a/2", "a/1", "ab/1", "b/1"):
            objects.write(f"s3://{bucket}/{key}", key.encode())
        assert [info.uri for info in objects.list(f"s3://{bucket}/a/")] == [f"s3://{bucket}/a/1", f"s3://{bucket}/a/2"]
        assert list(objects.list(f"s3://{bucket}/none/")) == []

    def test_a_deleted_object_is_gone_and_stays_gone(self, objects: ObjectStore, bucket: str) -> None:
        uri = f"s3://{bucket}/a"
        objects.write(uri, b"1")
        objects.delete(uri)
        objects.delete(uri)
        assert objects.head(uri) is None

    def test_a_copy_is_the_same_object_elsewhere_and_replaces_what_was_there(
        self, objects: ObjectStore, bucket: str
    ) -> None:
        source, target = f"s3://{bucket}/old/a b+c", f"s3://{bucket}/new/a b+c"
        objects.write(source, b"whole")
        objects.write(target, b"another")
        objects.copy(source, target)
        objects.copy(source, target)
        assert objects.read(target) == objects.read(source) == b"whole"

    def test_a_copy_of_what_is_not_there_is_missing_and_makes_nothing(self, objects: ObjectStore, bucket: str) -> None:
        with pytest.raises(ObjectMissing):
            objects.copy(f"s3://{bucket}/none", f"s3://{bucket}/target")
        assert objects.head(f"s3://{bucket}/target") is None

    def test_an_upload_goes_on_after_a_part_was_lost(self, objects: ObjectStore, bucket: str) -> None:
        uri = f"s3://{bucket}/big"
        bodies = [bytes([i]) * PART for i in range(3)] + [b"tail"]
        upload = objects.start_upload(uri)
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda n: put_part(objects, uri, upload, n, bodies[n - 1]), (1, 3, 4)))
        assert [(p.number, p.bytes) for p in objects.uploaded_parts(uri, upload)] == [(1, PART), (3, PART), (4, 4)]
        with pytest.raises(ObjectMissing, match="part 2"):
            objects.complete_upload(uri, upload)
        put_part(objects, uri, upload, 2, bodies[1])
        objects.complete_upload(uri, upload)
        assert objects.read(uri) == b"".join(bodies)

    def test_a_part_sent_again_replaces_itself(self, objects: ObjectStore, bucket: str) -> None:
        uri = f"s3://{bucket}/a"
        upload = objects.start_upload(uri)
        put_part(objects, uri, upload, 1, b"torn")
        put_part(objects, uri, upload, 1, b"whole")
        objects.complete_upload(uri, upload)
        assert objects.read(uri) == b"whole"

    def test_completing_twice_is_completing_once(self, objects: ObjectStore, bucket: str) -> None:
        uri = f"s3://{bucket}/a"
        upload = objects.start_upload(uri)
        put_part(objects, uri, upload, 1, b"whole")
        objects.complete_upload(uri, upload)
        objects.complete_upload(uri, upload)
        assert objects.read(uri) == b"whole"

    def test_an_upload_without_parts_makes_no_object(self, objects: ObjectStore, bucket: str) -> None:
        uri = f"s3://{bucket}/a"
        upload = objects.start_upload(uri)
        with pytest.raises(ObjectMissing, match="part 1"):
            objects.complete_upload(uri, upload)
        assert objects.head(uri) is None

    def test_an_aborted_upload_is_missing(self, objects: ObjectStore, bucket: str) -> None:
        uri = f"s3://{bucket}/a"
        upload = objects.start_upload(uri)
        put_part(objects, uri, upload, 1, b"1")
        objects.abort_upload(uri, upload)
        objects.abort_upload(uri, upload)
        with pytest.raises(ObjectMissing):
            objects.uploaded_parts(uri, upload)
        with pytest.raises(ObjectMissing):
            objects.complete_upload(uri, upload)
        assert objects.head(uri) is None


class TestS3:
    def test_a_missing_bucket_is_missing(self, bucket: str) -> None:
        objects = Objects()
        for act in (objects.read, objects.start_upload, lambda uri: list(objects.list(uri))):
            with pytest.raises(ObjectMissing) as missing:
                act("s3://bucket-that-is-not/a")
            assert missing.value.reason == "NoSuchBucket"
        with pytest.raises(ObjectMissing):
            objects.write("s3://bucket-that-is-not/a", b"1")

    def test_a_stream_takes_constant_memory(self, bucket: str) -> None:
        objects, uri = Objects(), f"s3://{bucket}/big"
        objects.write(uri, bytes(40 * 1024**2))
        tracemalloc.start()
        total = sum(len(chunk) for chunk in objects.stream(uri))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert total == 40 * 1024**2
        assert peak < 4 * 1024**2

    def test_a_large_copy_is_made_in_parts_by_s3_itself(self, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("spotune.aws.objects.COPY_PART_BYTES", PART)
        objects, source, target = Objects(), f"s3://{bucket}/a", f"s3://{bucket}/b"
        body = bytes(PART) + b"1" * PART + b"2"
        objects.write(source, body)
        asked: list[str] = []
        events = client("s3").meta.events
        events.register("before-call.s3", lambda model, **_: asked.append(model.name), unique_id="copies")
        objects.copy(source, target)
        events.unregister("before-call.s3", unique_id="copies")
        assert asked.count("UploadPartCopy") == 3
        assert not {"GetObject", "UploadPart", "PutObject"} & set(asked)
        assert objects.read(target) == body

    @pytest.mark.parametrize("part", [PART, 4 * PART])
    def test_a_copy_asks_for_no_tags_which_no_role_may_read(
        self, bucket: str, monkeypatch: pytest.MonkeyPatch, part: int
    ) -> None:
        monkeypatch.setattr("spotune.aws.objects.COPY_PART_BYTES", part)
        source, target = f"s3://{bucket}/tagged", f"s3://{bucket}/copy"
        s3 = client("s3")
        s3.put_object(Bucket=bucket, Key="tagged", Body=bytes(2 * PART), Tagging="owner=acme")
        asked: dict[str, Any] = {}
        s3.meta.events.register(
            "before-call.s3", lambda model, params, **_: asked.update({model.name: params["headers"]}), unique_id="tags"
        )
        Objects().copy(source, target)
        s3.meta.events.unregister("before-call.s3", unique_id="tags")
        assert not {"GetObjectTagging", "PutObjectTagging"} & asked.keys()
        if "CopyObject" in asked:
            assert asked["CopyObject"]["x-amz-tagging-directive"] == "REPLACE"
        assert s3.get_object_tagging(Bucket=bucket, Key="copy")["TagSet"] == []

    def test_a_copy_into_a_bucket_that_is_not_there_is_missing(self, bucket: str) -> None:
        Objects().write(f"s3://{bucket}/a", b"1")
        with pytest.raises(ObjectMissing):
            Objects().copy(f"s3://{bucket}/a", "s3://bucket-that-is-not/a")

    def test_an_upload_demands_no_checksum_of_its_parts(self, bucket: str) -> None:
        """S3 refuses to complete an upload that was begun with a checksum algorithm, if its parts have none."""
        asked: list[dict[str, Any]] = []
        events = client("s3").meta.events
        events.register("before-send.s3.CreateMultipartUpload", lambda request, **_: asked.append(request.headers))
        Objects().start_upload(f"s3://{bucket}/a")
        assert not [name for headers in asked for name in headers if "checksum" in name.lower()]
        assert len(asked) == 1

    def test_a_presigned_read_gives_a_range_of_that_version_and_ends_in_time(self, bucket: str) -> None:
        objects, uri, s3 = Objects(), f"s3://{bucket}/a b+c", client("s3")
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        first = s3.put_object(Bucket=bucket, Key="a b+c", Body=b"the first")["VersionId"]
        objects.write(uri, b"the second")
        url = objects.presign_read(uri, 60, version_id=first)
        assert httpx.get(url).content == b"the first"
        assert httpx.get(objects.presign_read(uri, 60)).content == b"the second"
        part = httpx.get(objects.presign_read(uri, 60), headers={"Range": "bytes=4-"})
        assert (part.status_code, part.content) == (206, b"second")
        assert httpx.URL(url).params["X-Amz-Expires"] == "60"
        assert httpx.URL(url).params["X-Amz-SignedHeaders"] == "host"

    def test_a_presigned_url_needs_no_header_and_names_no_secret(self, bucket: str) -> None:
        objects, uri = Objects(), f"s3://{bucket}/a"
        url = httpx.URL(objects.presign_part(uri, objects.start_upload(uri), 1, 60))
        assert url.params["X-Amz-SignedHeaders"] == "host"
        assert url.params["X-Amz-Expires"] == "60"
        assert not any("checksum" in name.lower() for name in url.params)


@pytest.fixture
def s3() -> Any:
    return boto3.client("s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")


class TestAnswers:
    """S3's answers that an emulator does not give, recorded."""

    @pytest.mark.parametrize("code", ["AccessDenied", "403", "NoSuchKey", "404", "NoSuchBucket"])
    def test_what_we_may_not_see_is_missing(self, s3: Any, code: str) -> None:
        with Stubber(s3) as stub:
            stub.add_client_error("get_object", code, http_status_code=403)
            stub.add_client_error("head_object", code, http_status_code=403)
            with pytest.raises(ObjectMissing):
                Objects(s3).read("s3://b/k")
            assert Objects(s3).head("s3://b/k") is None

    @pytest.mark.parametrize("key", ["k" * 1025, "\u00e9" * 513], ids=["long", "wide"])
    def test_a_key_longer_than_s3_takes_is_missing_without_asking(self, s3: Any, key: str) -> None:
        with Stubber(s3):
            with pytest.raises(ObjectMissing):
                Objects(s3).read(f"s3://b/{key}")
            assert Objects(s3).head(f"s3://b/{key}") is None

    def test_a_write_that_is_not_permitted_says_so(self, s3: Any) -> None:
        with Stubber(s3) as stub:
            stub.add_client_error("put_object", "AccessDenied", http_status_code=403)
            with pytest.raises(AwsRefused) as refused:
                Objects(s3).write("s3://b/k", b"")
        assert refused.value.code == "AccessDenied"

    @pytest.mark.parametrize(("code", "status"), [("SlowDown", 503), ("InternalError", 500), ("Throttling", 400)])
    def test_a_busy_s3_is_unavailable(self, s3: Any, code: str, status: int) -> None:
        with Stubber(s3) as stub:
            stub.add_client_error("head_object", code, http_status_code=status)
            with pytest.raises(Unavailable):
                Objects(s3).head("s3://b/k")

    def test_listings_of_several_pages_are_whole(self, s3: Any) -> None:
        def page(key: str, **more: Any) -> dict[str, Any]:
            return {"Contents": [{"Key": key, "Size": 1, "ETag": '"e"', "LastModified": datetime.now(UTC)}], **more}

        with Stubber(s3) as stub:
            first = {"Bucket": "b", "Prefix": "p"}
            stub.add_response("list_objects_v2", page("p1", IsTruncated=True, NextContinuationToken="t"), first)
            stub.add_response("list_objects_v2", page("p2"), {**first, "ContinuationToken": "t"})
            assert [info.uri for info in Objects(s3).list("s3://b/p")] == ["s3://b/p1", "s3://b/p2"]

    def test_part_lists_of_several_pages_are_whole(self, s3: Any) -> None:
        def page(number: int, **more: Any) -> dict[str, Any]:
            return {"Parts": [{"PartNumber": number, "Size": 1, "ETag": '"e"'}], **more}

        asked = {"Bucket": "b", "Key": "k", "UploadId": "u"}
        with Stubber(s3) as stub:
            more = page(1, IsTruncated=True, NextPartNumberMarker=1)
            stub.add_response("list_parts", more, {**asked, "PartNumberMarker": 0})
            stub.add_response("list_parts", page(2), {**asked, "PartNumberMarker": 1})
            assert [part.number for part in Objects(s3).uploaded_parts("s3://b/k", "u")] == [1, 2]


class Torn(BytesIO):
    """A connection that breaks where its bytes end."""

    def read(self, size: int | None = -1) -> bytes:
        body = super().read(size)
        if not body:
            raise ProtocolError("connection broken")
        return body


def answer(body: bytes, total: int, *, torn: bool) -> dict[str, Any]:
    raw = Torn(body) if torn else BytesIO(body)
    return {"Body": StreamingBody(raw, total), "ContentLength": total, "ETag": '"e1"'}


class TestTornStreams:
    def test_a_stream_that_breaks_goes_on_where_it_broke(self, s3: Any) -> None:
        with Stubber(s3) as stub:
            asked = {"Bucket": "b", "Key": "k"}
            stub.add_response("get_object", answer(b"one", 6, torn=True), asked)
            stub.add_response(
                "get_object", answer(b"two", 3, torn=False), {**asked, "Range": "bytes=3-", "IfMatch": '"e1"'}
            )
            assert Objects(s3).read("s3://b/k") == b"onetwo"

    def test_a_stream_that_breaks_after_its_last_byte_is_whole(self, s3: Any) -> None:
        with Stubber(s3) as stub:
            stub.add_response("get_object", answer(b"one", 3, torn=True))
            assert Objects(s3).read("s3://b/k") == b"one"

    def test_an_object_that_changed_in_between_is_not_sewn_together(self, s3: Any) -> None:
        with Stubber(s3) as stub:
            stub.add_response("get_object", answer(b"one", 6, torn=True))
            stub.add_client_error("get_object", "PreconditionFailed", http_status_code=412)
            with pytest.raises(ObjectMissing, match="changed"):
                Objects(s3).read("s3://b/k")

    def test_a_stream_that_keeps_breaking_is_unavailable(self, s3: Any) -> None:
        with Stubber(s3) as stub:
            for _ in range(REOPENINGS + 1):
                stub.add_response("get_object", answer(b"1", 100, torn=True))
            with pytest.raises(Unavailable):
                Objects(s3).read("s3://b/k")


@pytest.mark.parametrize(
    "total", [1, MIN_PART_BYTES, MIN_PART_BYTES * MAX_PARTS, MIN_PART_BYTES * MAX_PARTS + 1, 5 * 1024**4]
)
def test_parts_are_few_enough_and_large_enough(total: int) -> None:
    size = part_bytes(total)
    assert MIN_PART_BYTES <= size <= LARGEST_PART
    assert size % 1024**2 == 0
    assert -(-total // size) <= MAX_PARTS
