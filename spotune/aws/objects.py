"""Objects in S3, in constant memory, and uploads in parts that any HTTP client can make."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

from botocore.exceptions import HTTPClientError, IncompleteReadError

from spotune.aws.base import (
    AwsRefused,
    ObjectInfo,
    ObjectMissing,
    ObjectVersion,
    SourceChanged,
    UploadedPart,
)
from spotune.aws.clients import call, client, unavailable
from spotune.aws.parts import check_parts, copied_parts, in_parts
from spotune.contracts.base import Seconds
from spotune.contracts.errors import Unavailable
from spotune.contracts.layout import split_uri

CHUNK_BYTES = 256 * 1024

COPY_PART_BYTES = 256 * 1024**2
"""S3 copies a part at some 100 MB/s, so several at a time are what makes a large copy quick. It takes 10,000 parts."""

REOPENINGS = 5
"""How often a stream that broke is taken up again."""

KEY_BYTES = 1024
"""S3's longest key, in UTF-8. It refuses a longer one with other words for every operation."""

_MISSING = frozenset({"NoSuchKey", "NoSuchBucket", "NoSuchUpload", "NoSuchVersion", "NotFound", "404"})

_HIDDEN = frozenset({"AccessDenied", "Forbidden", "403", "MethodNotAllowed", "405"})
"""S3's answers to a read of what is not there, where we may not list the bucket: the two look the same. And to one of a
delete marker."""

_READS = frozenset({"get_object", "head_object"})

_CHANGED = frozenset({"PreconditionFailed", "412"})

CARRIED_PART_BYTES = 128 * 1024**2
"""S3 copies up to 5 GB in one request, and answers when it is done: parts are done sooner, and several at once."""

COPIED_AT_ONCE = 8

STREAMED_PART_BYTES = 8 * 1024**2
"""Of what is written as it is made: ten thousand parts are 78 GiB, and some of them are held in memory."""


class Objects:
    """Fulfils `ObjectStore`.

    Args:
        s3: boto3's S3 client; the shared ones where none is given.
        regions: of buckets that do not lie in the environment's region: S3 answers in a bucket's own region alone.
    """

    def __init__(self, s3: Any = None, regions: Mapping[str, str] | None = None) -> None:
        self._given = s3
        self._regions = regions or {}

    def read(self, uri: str) -> bytes:
        """See `ObjectStore`."""
        return b"".join(self.stream(uri))

    def stream(self, uri: str, *, version_id: str = "", etag: str = "") -> Iterator[bytes]:
        """See `ObjectStore`. A connection that breaks is taken up where it broke, as long as the object is the same."""
        version = {"VersionId": version_id} if version_id else {}
        condition = {"IfMatch": f'"{etag}"'} if etag else {}
        return self._chunks(uri, self._call("get_object", uri, **version, **condition), version)

    def head(self, uri: str, *, version_id: str = "") -> ObjectInfo | None:
        """See `ObjectStore`."""
        try:
            found = self._call("head_object", uri, **({"VersionId": version_id} if version_id else {}))
        except ObjectMissing:
            return None
        modified, version = found["LastModified"].timestamp(), _kept(found.get("VersionId"))
        return ObjectInfo(uri, found["ContentLength"], _unquoted(found["ETag"]), modified, version)

    def write(self, uri: str, body: bytes) -> None:
        """See `ObjectStore`."""
        self._call("put_object", uri, Body=body)

    def copy(self, source_uri: str, target_uri: str) -> None:
        """See `ObjectStore`. In parts, ten at a time, from `COPY_PART_BYTES` on; CopyObject alone ends at 5 GB.

        The source's tags stay behind: no role of ours may read them, and S3 refuses to copy tags that one may not read.
        """
        from boto3.s3.transfer import TransferConfig  # here, as boto3 itself: it costs a process that never copies

        source, target = split_uri(source_uri), split_uri(target_uri)
        self._mapped(
            "copy",
            source_uri,
            CopySource={"Bucket": source[0], "Key": source[1]},
            Bucket=target[0],
            Key=target[1],
            ExtraArgs={"TaggingDirective": "REPLACE"},
            Config=TransferConfig(multipart_threshold=COPY_PART_BYTES, multipart_chunksize=COPY_PART_BYTES),
        )

    def write_new(self, uri: str, body: bytes) -> bool:
        """See `ObjectStore`."""
        bucket, key = split_uri(uri)
        try:
            call(self._s3(bucket).put_object, Bucket=bucket, Key=key, Body=body, IfNoneMatch="*")
        except AwsRefused as error:
            if error.code in _CHANGED:
                return False
            if error.code == "ConditionalRequestConflict":  # another one is being written this moment
                raise unavailable(error) from error
            if error.code in _MISSING:
                raise ObjectMissing(uri, error.code) from error
            raise
        return True

    def carry(self, source: ObjectInfo, target_uri: str, more_time: Callable[[], bool]) -> bool:
        """See `ObjectStore`."""
        if not more_time():
            return False
        if source.bytes <= CARRIED_PART_BYTES:
            self._copy_call("copy_object", source, target_uri, TaggingDirective="REPLACE")
        elif not self._copy_parts(source, target_uri, more_time):
            return False
        self._check_copy(source, target_uri)
        return True

    def list(self, prefix_uri: str) -> Iterator[ObjectInfo]:
        """See `ObjectStore`."""
        bucket, prefix = split_uri(prefix_uri)
        arguments: dict[str, object] = {"Bucket": bucket, "Prefix": prefix}
        while True:
            found = self._mapped("list_objects_v2", prefix_uri, **arguments)
            yield from (_listed(bucket, entry) for entry in found.get("Contents", []))
            if not found.get("IsTruncated"):
                return
            arguments["ContinuationToken"] = found["NextContinuationToken"]

    def versions(self, prefix_uri: str, *, after: str = "") -> Iterator[ObjectVersion]:
        """See `ObjectStore`."""
        bucket, prefix = split_uri(prefix_uri)
        arguments: dict[str, object] = {"Bucket": bucket, "Prefix": prefix}
        if after:
            arguments["KeyMarker"] = split_uri(after)[1]
        while True:
            found = self._mapped("list_object_versions", prefix_uri, **arguments)
            entries = (*found.get("Versions", ()), *found.get("DeleteMarkers", ()))
            page = [ObjectVersion(_listed(bucket, one), one["IsLatest"], "ETag" not in one) for one in entries]
            yield from sorted(page, key=lambda one: (one.info.uri, not one.latest, -one.info.modified))
            if not found.get("IsTruncated"):
                return
            arguments["KeyMarker"] = found["NextKeyMarker"]
            arguments["VersionIdMarker"] = found["NextVersionIdMarker"]

    def write_stream(self, uri: str, chunks: Iterable[bytes]) -> None:
        """See `ObjectStore`. What fits into one part is written at once."""
        parts = in_parts(chunks, STREAMED_PART_BYTES)
        first = next(parts, b"")
        if len(first) < STREAMED_PART_BYTES:
            self.write(uri, first)
            return
        upload_id = self.start_upload(uri)
        try:
            for number, body in enumerate(chain((first,), parts), start=1):
                self._call("upload_part", uri, UploadId=upload_id, PartNumber=number, Body=body)
            self.complete_upload(uri, upload_id)
        except BaseException:
            self.abort_upload(uri, upload_id)
            raise

    def delete(self, uri: str) -> None:
        """See `ObjectStore`."""
        self._call("delete_object", uri)

    def mark(self, uri: str, key: str, value: str) -> None:
        """See `ObjectStore`."""
        self._call("put_object_tagging", uri, Tagging={"TagSet": [{"Key": key, "Value": value}]})

    def start_upload(self, uri: str) -> str:
        """See `ObjectStore`."""
        upload_id: str = self._call("create_multipart_upload", uri)["UploadId"]
        return upload_id

    def presign_part(self, uri: str, upload_id: str, number: int, expires_in: Seconds) -> str:
        """See `ObjectStore`. It also ends with the credentials that sign it: in a Lambda, within hours."""
        bucket, key = split_uri(uri)
        part = {"Bucket": bucket, "Key": key, "UploadId": upload_id, "PartNumber": number}
        url: str = self._s3(bucket).generate_presigned_url("upload_part", Params=part, ExpiresIn=expires_in)
        return url

    def presign_read(self, uri: str, expires_in: Seconds, *, version_id: str = "") -> str:
        """See `ObjectStore`. It ends with the credentials that sign it, as `presign_part`'s."""
        bucket, key = split_uri(uri)
        asked = {"Bucket": bucket, "Key": key, **({"VersionId": version_id} if version_id else {})}
        url: str = self._s3(bucket).generate_presigned_url("get_object", Params=asked, ExpiresIn=expires_in)
        return url

    def uploaded_parts(self, uri: str, upload_id: str) -> tuple[UploadedPart, ...]:
        """See `ObjectStore`."""
        parts: list[UploadedPart] = []
        marker = 0
        while True:
            found = self._call("list_parts", uri, UploadId=upload_id, PartNumberMarker=marker)
            parts += (UploadedPart(p["PartNumber"], p["Size"], _unquoted(p["ETag"])) for p in found.get("Parts", []))
            if not found.get("IsTruncated"):
                return tuple(parts)
            marker = found["NextPartNumberMarker"]

    def complete_upload(self, uri: str, upload_id: str) -> None:
        """See `ObjectStore`."""
        try:
            parts = self.uploaded_parts(uri, upload_id)
            check_parts(uri, parts)
            made = [{"PartNumber": part.number, "ETag": part.etag} for part in parts]
            self._call("complete_multipart_upload", uri, UploadId=upload_id, MultipartUpload={"Parts": made})
        except ObjectMissing as error:
            if error.reason != "NoSuchUpload" or self.head(uri) is None:
                raise

    def abort_upload(self, uri: str, upload_id: str) -> None:
        """See `ObjectStore`."""
        try:
            self._call("abort_multipart_upload", uri, UploadId=upload_id)
        except ObjectMissing as error:
            if error.reason != "NoSuchUpload":
                raise

    def _copy_parts(self, source: ObjectInfo, target_uri: str, more_time: Callable[[], bool]) -> bool:
        wanted = copied_parts(source.bytes, CARRIED_PART_BYTES)
        upload_id = self._open_upload(target_uri) or self.start_upload(target_uri)
        sizes = {number: last + 1 - first for number, (first, last) in wanted.items()}
        try:
            arrived = self.uploaded_parts(target_uri, upload_id)
            held = {part.number for part in arrived if part.bytes == sizes.get(part.number)}

            def copy_part(number: int) -> bool:
                if not more_time():
                    return False
                first, last = wanted[number]
                part = {"UploadId": upload_id, "PartNumber": number, "CopySourceRange": f"bytes={first}-{last}"}
                self._copy_call("upload_part_copy", source, target_uri, **part)
                return True

            with ThreadPoolExecutor(COPIED_AT_ONCE) as threads:
                if not all(list(threads.map(copy_part, sorted(wanted.keys() - held)))):
                    return False
            self.complete_upload(target_uri, upload_id)
        except ObjectMissing as error:
            # Another delivery of the same command has just completed the same upload.
            if error.reason != "NoSuchUpload" or self.head(target_uri) is None:
                raise
        return True

    def _copy_call(self, operation: str, source: ObjectInfo, target_uri: str, **arguments: object) -> None:
        source_bucket, source_key = split_uri(source.uri)
        bucket, key = split_uri(target_uri)
        try:
            call(
                getattr(self._s3(bucket), operation),
                Bucket=bucket,
                Key=key,
                CopySource={"Bucket": source_bucket, "Key": source_key},
                CopySourceIfMatch=source.etag,
                **arguments,
            )
        except AwsRefused as error:
            if error.code in _CHANGED or error.code == "NoSuchKey":
                raise SourceChanged(source.uri) from error
            if error.code in _MISSING:
                raise ObjectMissing(target_uri, error.code) from error
            raise

    def _open_upload(self, uri: str) -> str | None:
        """The upload that an earlier call began to this key."""
        bucket, key = split_uri(uri)
        found = self._mapped("list_multipart_uploads", uri, Bucket=bucket, Prefix=key)
        return next((str(one["UploadId"]) for one in found.get("Uploads", []) if one["Key"] == key), None)

    def _check_copy(self, source: ObjectInfo, target_uri: str) -> None:
        """The size always; the ETag where both are MD5s of the whole."""
        copy = self.head(target_uri)
        if copy is None or copy.bytes != source.bytes or (copy.etag != source.etag and self._is_md5(source, copy)):
            self.delete(target_uri)
            raise Unavailable(
                f"The copy of {source.uri} at {target_uri} came out different, and was deleted.",
                code="copy_damaged",
                remedy="It is copied again.",
            )

    def _is_md5(self, *objects: ObjectInfo) -> bool:
        """False for what was uploaded in parts, or encrypted with a key of KMS."""
        if any("-" in one.etag for one in objects):
            return False
        found = (self._call("head_object", one.uri) for one in objects)
        return all(one.get("ServerSideEncryption", "AES256") == "AES256" for one in found)

    def _s3(self, bucket: str) -> Any:
        region = self._regions.get(bucket)
        return self._given or (client("s3", region) if region else client("s3"))

    def _call(self, operation: str, uri: str, **arguments: object) -> dict[str, Any]:
        bucket, key = split_uri(uri)
        if len(key.encode()) > KEY_BYTES:
            raise ObjectMissing(uri, "no key is so long")
        return self._mapped(operation, uri, Bucket=bucket, Key=key, **arguments)

    def _mapped(self, operation: str, uri: str, **arguments: object) -> dict[str, Any]:
        try:
            return call(getattr(self._s3(split_uri(uri)[0]), operation), **arguments)
        except AwsRefused as error:
            if error.code in _CHANGED:
                raise ObjectMissing(uri, "changed while it was read") from error
            if error.code in _MISSING or (error.code in _HIDDEN and operation in _READS):
                raise ObjectMissing(uri, error.code) from error
            raise

    def _chunks(self, uri: str, found: dict[str, Any], version: dict[str, str]) -> Iterator[bytes]:
        offset, total, etag = 0, found["ContentLength"], found["ETag"]
        for left in range(REOPENINGS, -1, -1):
            try:
                for chunk in found["Body"].iter_chunks(CHUNK_BYTES):
                    offset += len(chunk)
                    yield chunk
                return
            except (HTTPClientError, IncompleteReadError) as error:
                if offset == total:
                    return
                if not left:
                    raise unavailable(error) from error
            found = self._call("get_object", uri, Range=f"bytes={offset}-", IfMatch=etag, **version)


def _listed(bucket: str, entry: dict[str, Any]) -> ObjectInfo:
    """One entry of a listing; a delete marker has neither size nor ETag."""
    uri, etag = f"s3://{bucket}/{entry['Key']}", _unquoted(entry.get("ETag", ""))
    return ObjectInfo(uri, entry.get("Size", 0), etag, entry["LastModified"].timestamp(), _kept(entry.get("VersionId")))


def _kept(version_id: str | None) -> str:
    """S3 calls `null` what it keeps no versions of: the next write replaces it."""
    return "" if version_id in (None, "null") else version_id


def _unquoted(etag: str) -> str:
    return etag.strip('"')
