"""Objects in S3, in constant memory, and uploads in parts that any HTTP client can make."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from botocore.exceptions import HTTPClientError, IncompleteReadError

from spotune.aws.base import AwsRefused, ObjectInfo, ObjectMissing, UploadedPart, check_parts
from spotune.aws.clients import call, client, unavailable
from spotune.contracts.base import Seconds
from spotune.contracts.layout import split_uri

CHUNK_BYTES = 256 * 1024

COPY_PART_BYTES = 256 * 1024**2
"""S3 copies a part at some 100 MB/s, so several at a time are what makes a large copy quick. It takes 10,000 parts."""

REOPENINGS = 5
"""How often a stream that broke is taken up again."""

KEY_BYTES = 1024
"""S3's longest key, in UTF-8. It refuses a longer one with other words for every operation."""

_MISSING = frozenset({"NoSuchKey", "NoSuchBucket", "NoSuchUpload", "NotFound", "404"})

_HIDDEN = frozenset({"AccessDenied", "Forbidden", "403"})
"""S3's answer to a read of what is not there, where we may not list the bucket: the two look the same."""

_READS = frozenset({"get_object", "head_object"})

_CHANGED = frozenset({"PreconditionFailed", "412"})


class Objects:
    """Fulfils `ObjectStore`.

    Args:
        s3: boto3's S3 client; the shared one where none is given.
    """

    def __init__(self, s3: Any = None) -> None:
        self._given = s3

    def read(self, uri: str) -> bytes:
        """See `ObjectStore`."""
        return b"".join(self.stream(uri))

    def stream(self, uri: str) -> Iterator[bytes]:
        """See `ObjectStore`. A connection that breaks is taken up where it broke, as long as the object is the same."""
        return self._chunks(uri, self._call("get_object", uri))

    def head(self, uri: str) -> ObjectInfo | None:
        """See `ObjectStore`."""
        try:
            found = self._call("head_object", uri)
        except ObjectMissing:
            return None
        return ObjectInfo(uri, found["ContentLength"], _unquoted(found["ETag"]), found["LastModified"].timestamp())

    def write(self, uri: str, body: bytes) -> None:
        """See `ObjectStore`."""
        self._call("put_object", uri, Body=body)

    def copy(self, source_uri: str, target_uri: str) -> None:
        """See `ObjectStore`. In parts, ten at a time, from `COPY_PART_BYTES` on; CopyObject alone ends at 5 GB."""
        from boto3.s3.transfer import TransferConfig  # here, as boto3 itself: it costs a process that never copies

        source, target = split_uri(source_uri), split_uri(target_uri)
        self._mapped(
            "copy",
            source_uri,
            CopySource={"Bucket": source[0], "Key": source[1]},
            Bucket=target[0],
            Key=target[1],
            Config=TransferConfig(multipart_threshold=COPY_PART_BYTES, multipart_chunksize=COPY_PART_BYTES),
        )

    def list(self, prefix_uri: str) -> Iterator[ObjectInfo]:
        """See `ObjectStore`."""
        bucket, prefix = split_uri(prefix_uri)
        arguments: dict[str, object] = {"Bucket": bucket, "Prefix": prefix}
        while True:
            found = self._mapped("list_objects_v2", prefix_uri, **arguments)
            for entry in found.get("Contents", []):
                uri = f"s3://{bucket}/{entry['Key']}"
                yield ObjectInfo(uri, entry["Size"], _unquoted(entry["ETag"]), entry["LastModified"].timestamp())
            if not found.get("IsTruncated"):
                return
            arguments["ContinuationToken"] = found["NextContinuationToken"]

    def delete(self, uri: str) -> None:
        """See `ObjectStore`."""
        self._call("delete_object", uri)

    def start_upload(self, uri: str) -> str:
        """See `ObjectStore`."""
        upload_id: str = self._call("create_multipart_upload", uri)["UploadId"]
        return upload_id

    def presign_part(self, uri: str, upload_id: str, number: int, expires_in: Seconds) -> str:
        """See `ObjectStore`. It also ends with the credentials that sign it: in a Lambda, within hours."""
        bucket, key = split_uri(uri)
        part = {"Bucket": bucket, "Key": key, "UploadId": upload_id, "PartNumber": number}
        url: str = self._s3.generate_presigned_url("upload_part", Params=part, ExpiresIn=expires_in)
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

    @property
    def _s3(self) -> Any:
        return self._given or client("s3")

    def _call(self, operation: str, uri: str, **arguments: object) -> dict[str, Any]:
        bucket, key = split_uri(uri)
        if len(key.encode()) > KEY_BYTES:
            raise ObjectMissing(uri, "no key is so long")
        return self._mapped(operation, uri, Bucket=bucket, Key=key, **arguments)

    def _mapped(self, operation: str, uri: str, **arguments: object) -> dict[str, Any]:
        try:
            return call(getattr(self._s3, operation), **arguments)
        except AwsRefused as error:
            if error.code in _CHANGED:
                raise ObjectMissing(uri, "changed while it was read") from error
            if error.code in _MISSING or (error.code in _HIDDEN and operation in _READS):
                raise ObjectMissing(uri, error.code) from error
            raise

    def _chunks(self, uri: str, found: dict[str, Any]) -> Iterator[bytes]:
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
            found = self._call("get_object", uri, Range=f"bytes={offset}-", IfMatch=etag)


def _unquoted(etag: str) -> str:
    return etag.strip('"')
