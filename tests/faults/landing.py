"""S3 as new data lands in it: every object version that ever was, and the event that S3 makes of each change."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from spotune.aws.memory_objects import MemoryObjects
from spotune.contracts.layout import split_uri

REGION = "us-east-1"


@dataclass(frozen=True)
class Change:
    """What S3 did to a key: a version came, or the key was deleted (`body` is None then)."""

    uri: str
    version_id: str
    """Empty where the bucket keeps none; of a deletion the marker's."""
    etag: str
    sequencer: str
    at: float
    body: bytes | None
    reason: str

    @property
    def key(self) -> tuple[str, str]:
        """What an arrival of it is known by."""
        return self.uri, self.version_id or self.etag

    @property
    def numbers(self) -> tuple[int, ...] | None:
        """Which rows its file holds; None where it is no dataset."""
        return None if self.body is None else numbers_in(self.body)


class Landing(MemoryObjects):
    """Tells each change of each object, whoever made it: the service's own writes, too."""

    def __init__(self, versionless: Container[str]) -> None:
        super().__init__(versionless=versionless)
        self.changes: list[Change] = []
        self.untold: list[Change] = []
        """Whose events are to be sent."""

    def write(self, uri: str, body: bytes) -> None:
        """See `ObjectStore`."""
        super().write(uri, body)
        self._tell(uri, body, "PutObject")

    def delete(self, uri: str) -> None:
        """See `ObjectStore`."""
        super().delete(uri)
        self._tell(uri, None, "DeleteObject")

    def upload(self, uri: str, body: bytes) -> None:
        """One object by a multipart upload of one part."""
        upload_id = self.start_upload(uri)
        self.put_part(uri, upload_id, 1, body)
        self.complete_upload(uri, upload_id)

    def changes_of(self, uri: str) -> list[Change]:
        """All that happened to one key, oldest first."""
        return [change for change in self.changes if change.uri == uri]

    def present(self) -> Iterator[Change]:
        """The newest version of each key that is not deleted."""
        newest = {change.uri: change for change in self.changes}
        return (change for change in newest.values() if change.body is not None)

    def _tell(self, uri: str, body: bytes | None, reason: str) -> None:
        newest = next(iter(self.versions(uri)), None)
        change = Change(
            uri=uri,
            version_id=newest.info.version_id if newest is not None else "",
            etag=newest.info.etag if newest is not None and body is not None else "",
            sequencer=f"{len(self.changes):016X}",
            at=self._clock(),
            body=body,
            reason=reason,
        )
        self.changes.append(change)
        self.untold.append(change)


def event_of(change: Change) -> dict[str, Any]:
    """The event that EventBridge puts on the arrivals queue."""
    bucket, key = split_uri(change.uri)
    found: dict[str, Any] = {"key": key, "sequencer": change.sequencer}
    if change.version_id:
        found["version-id"] = change.version_id
    detail = {"version": "0", "bucket": {"name": bucket}, "object": found, "reason": change.reason}
    if change.body is None:
        detail["deletion-type"] = "Delete Marker Created" if change.version_id else "Permanently Deleted"
    else:
        found |= {"size": len(change.body), "etag": change.etag}
    return {
        "version": "0",
        "id": f"event-{change.sequencer}",
        "detail-type": "Object Deleted" if change.body is None else "Object Created",
        "source": "aws.s3",
        "account": "123456789012",
        "time": f"{datetime.fromtimestamp(change.at, UTC):%Y-%m-%dT%H:%M:%SZ}",
        "region": REGION,
        "resources": [f"arn:aws:s3:::{bucket}"],
        "detail": detail,
    }


def rows_of(numbers: Iterable[int]) -> bytes:
    """A file of rows that are known by their numbers."""
    return b"".join(_row(number) for number in numbers)


def _row(number: int) -> bytes:
    turns = [
        {"role": "user", "content": f"Say the number {number} twice."},
        {"role": "assistant", "content": f"{number} {number}"},
    ]
    return json.dumps({"messages": turns}).encode() + b"\n"


def numbers_in(body: bytes) -> tuple[int, ...] | None:
    """The numbers of a file's rows, in its order; None where a line is no such row."""
    try:
        rows = [json.loads(line) for line in body.decode().splitlines() if line.strip()]
        return tuple(int(row["messages"][0]["content"].split()[3]) for row in rows)
    except (ValueError, KeyError, TypeError, IndexError):
        return None
