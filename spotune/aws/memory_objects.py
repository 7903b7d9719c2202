"""S3 in a dict, for unit tests and the fault suite: same answers, same errors, versions kept."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from itertools import count

from spotune.aws.base import ObjectInfo, ObjectMissing, ObjectVersion, SourceChanged, UploadedPart
from spotune.aws.parts import check_parts, copied_parts
from spotune.contracts.base import Seconds, Timestamp
from spotune.contracts.layout import split_uri

CHUNK_BYTES = 64 * 1024

Clock = Callable[[], Timestamp]


@dataclass(frozen=True, slots=True)
class _Version:
    """One version of a key; `body` is None for a delete marker."""

    info: ObjectInfo
    body: bytes | None


class MemoryObjects:
    """Fulfils `ObjectStore`. Any bucket exists. `put_part` stands for a client's PUT to a presigned URL.

    `copied_bytes` counts what copies moved; `before_part` is called with the source before each of their parts.

    Args:
        clock: of the objects' times.
        versionless: buckets that keep no versions; all others do.
    """

    copy_part_bytes = 64 * 1024

    def __init__(self, clock: Clock = time.time, versionless: Container[str] = ()) -> None:
        self._clock = clock
        self._versionless = versionless
        self._lock = threading.RLock()
        self._history: dict[str, list[_Version]] = {}
        self._uploads: dict[tuple[str, str], dict[int, bytes]] = {}
        self._numbers = count(1)
        self._copying: dict[tuple[str, str], dict[int, bytes]] = {}
        self.copied_bytes = 0
        self.marks: dict[str, tuple[str, str]] = {}
        """Tags of objects, by URI; who writes an object anew takes its tag away."""
        self.before_part: Callable[[ObjectInfo], None] = lambda source: None

    def read(self, uri: str) -> bytes:
        """See `ObjectStore`."""
        return self._body(uri)

    def stream(self, uri: str, *, version_id: str = "", etag: str = "") -> Iterator[bytes]:
        """See `ObjectStore`."""
        body = self._body(uri, version_id, etag)
        return (body[start : start + CHUNK_BYTES] for start in range(0, len(body), CHUNK_BYTES))

    def head(self, uri: str, *, version_id: str = "") -> ObjectInfo | None:
        """See `ObjectStore`."""
        found = self._find(uri, version_id)
        return None if found is None or found.body is None else found.info

    def write(self, uri: str, body: bytes) -> None:
        """See `ObjectStore`."""
        with self._lock:
            info = ObjectInfo(_checked(uri), len(body), _etag(body), self._clock(), self._new_version(uri))
            self._keep(_Version(info, body))
            self.marks.pop(uri, None)

    def copy(self, source_uri: str, target_uri: str) -> None:
        """See `ObjectStore`."""
        with self._lock:
            self.write(target_uri, self.read(source_uri))

    def write_new(self, uri: str, body: bytes) -> bool:
        """See `ObjectStore`."""
        with self._lock:
            if self.head(uri) is not None:
                return False
            self.write(uri, body)
            return True

    def carry(self, source: ObjectInfo, target_uri: str, more_time: Callable[[], bool]) -> bool:
        """See `ObjectStore`."""
        if not more_time():
            return False
        parts = self._copying.setdefault((target_uri, source.etag), {})
        for number, (first, last) in copied_parts(source.bytes, self.copy_part_bytes).items():
            if number in parts:
                continue
            if not more_time():
                return False
            self.before_part(source)
            with self._lock:
                now = self.head(source.uri)
                if now is None or now.etag != source.etag:
                    raise SourceChanged(source.uri)
                parts[number] = self._body(source.uri)[first : last + 1]
                self.copied_bytes += last + 1 - first
        self.write(target_uri, b"".join(body for _, body in sorted(parts.items())))
        del self._copying[target_uri, source.etag]
        return True

    def list(self, prefix_uri: str) -> Iterator[ObjectInfo]:
        """See `ObjectStore`."""
        _checked(prefix_uri)
        with self._lock:
            shown = [self.head(uri) for uri in sorted(self._history) if uri.startswith(prefix_uri)]
        yield from (_without_version(info) for info in shown if info is not None)

    def versions(self, prefix_uri: str, *, after: str = "") -> Iterator[ObjectVersion]:
        """See `ObjectStore`."""
        _checked(prefix_uri)
        with self._lock:
            found = [
                ObjectVersion(one.info, one is kept[-1], one.body is None)
                for uri, kept in sorted(self._history.items())
                if uri.startswith(prefix_uri) and uri > after
                for one in reversed(kept)
            ]
        yield from found

    def write_stream(self, uri: str, chunks: Iterable[bytes]) -> None:
        """See `ObjectStore`."""
        self.write(uri, b"".join(chunks))

    def delete(self, uri: str) -> None:
        """See `ObjectStore`."""
        with self._lock:
            if self.head(uri) is None:
                return
            if self._keeps_versions(uri):
                self._keep(_Version(ObjectInfo(uri, 0, "", self._clock(), self._new_version(uri)), None))
            else:
                del self._history[uri]

    def mark(self, uri: str, key: str, value: str) -> None:
        """See `ObjectStore`."""
        with self._lock:
            self._body(uri)
            self.marks[uri] = (key, value)

    def delete_version(self, uri: str, version_id: str) -> None:
        """What a person does with one version: it is gone for good."""
        with self._lock:
            left = [one for one in self._history.get(uri, ()) if one.info.version_id != version_id]
            self._history[uri] = left
            if not left:
                del self._history[uri]

    def start_upload(self, uri: str) -> str:
        """See `ObjectStore`."""
        with self._lock:
            upload_id = f"upload-{next(self._numbers)}"
            self._uploads[_checked(uri), upload_id] = {}
        return upload_id

    def presign_part(self, uri: str, upload_id: str, number: int, expires_in: Seconds) -> str:
        """See `ObjectStore`; the URL names the part and leads nowhere."""
        return f"memory://{_checked(uri)[5:]}?uploadId={upload_id}&partNumber={number}&expires={expires_in}"

    def presign_read(self, uri: str, expires_in: Seconds, *, version_id: str = "") -> str:
        """See `ObjectStore`; the URL names the object and leads nowhere."""
        return f"memory://{_checked(uri)[5:]}?versionId={version_id}&expires={expires_in}"

    def put_part(self, uri: str, upload_id: str, number: int, body: bytes) -> None:
        """What a PUT to the presigned URL does. Raises `ObjectMissing` where there is no such upload."""
        with self._lock:
            self._parts(uri, upload_id)[number] = body

    def uploaded_parts(self, uri: str, upload_id: str) -> tuple[UploadedPart, ...]:
        """See `ObjectStore`."""
        with self._lock:
            parts = sorted(self._parts(uri, upload_id).items())
        return tuple(UploadedPart(number, len(body), _etag(body)) for number, body in parts)

    def complete_upload(self, uri: str, upload_id: str) -> None:
        """See `ObjectStore`."""
        with self._lock:
            if (uri, upload_id) not in self._uploads and self.head(uri) is not None:
                return
            parts = self._parts(uri, upload_id)
            check_parts(uri, self.uploaded_parts(uri, upload_id))
            self.write(uri, b"".join(body for _, body in sorted(parts.items())))
            del self._uploads[uri, upload_id]

    def abort_upload(self, uri: str, upload_id: str) -> None:
        """See `ObjectStore`."""
        with self._lock:
            self._uploads.pop((uri, upload_id), None)

    def _body(self, uri: str, version_id: str = "", etag: str = "") -> bytes:
        found = self._find(uri, version_id)
        if found is None or found.body is None:
            raise ObjectMissing(uri)
        if etag and found.info.etag != etag:
            raise ObjectMissing(uri, "changed while it was read")
        return found.body

    def _find(self, uri: str, version_id: str) -> _Version | None:
        with self._lock:
            kept = self._history.get(_checked(uri), [])
            if not version_id:
                return kept[-1] if kept else None
            return next((one for one in kept if one.info.version_id == version_id), None)

    def _keep(self, version: _Version) -> None:
        uri = version.info.uri
        self._history[uri] = [*(self._history.get(uri, []) if self._keeps_versions(uri) else []), version]

    def _keeps_versions(self, uri: str) -> bool:
        return split_uri(uri)[0] not in self._versionless

    def _new_version(self, uri: str) -> str:
        return f"version-{next(self._numbers)}" if self._keeps_versions(uri) else ""

    def _parts(self, uri: str, upload_id: str) -> dict[int, bytes]:
        if (uri, upload_id) not in self._uploads:
            raise ObjectMissing(uri, f"no upload {upload_id}")
        return self._uploads[uri, upload_id]


def _without_version(info: ObjectInfo) -> ObjectInfo:
    return ObjectInfo(info.uri, info.bytes, info.etag, info.modified)


def _checked(uri: str) -> str:
    split_uri(uri)
    return uri


def _etag(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()
