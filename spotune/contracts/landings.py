"""What S3 says through EventBridge of an object: at least once, and in any order."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints

from spotune.contracts.base import Contract, Timestamp

Name = Annotated[str, StringConstraints(min_length=1)]


class _FromS3(Contract):
    """S3 adds fields as it likes."""

    model_config = ConfigDict(extra="ignore")


class _Bucket(_FromS3):
    name: Name


class _Object(_FromS3):
    """Deletions have neither size nor ETag, and buckets that keep no versions no version's id."""

    key: Name
    size: Annotated[int, Field(ge=0)] = 0
    etag: str = ""
    version_id: str = Field(default="", alias="version-id")
    sequencer: str = ""


class _Detail(_FromS3):
    bucket: _Bucket
    object: _Object
    deletion_type: str = Field(default="", alias="deletion-type")


class _Event(_FromS3):
    kind: Literal["Object Created", "Object Deleted"] = Field(alias="detail-type")
    time: datetime
    detail: _Detail


class Landing(Contract):
    """One change of one object."""

    uri: str
    at: Timestamp
    kind: Literal["created", "marked", "deleted"]
    """`marked`: a delete marker, itself a version, hides the key's others. `deleted`: a version is gone for good."""
    version_id: str
    """Empty where the bucket keeps none, or the event does not say."""
    etag: str
    bytes: int
    sequencer: str


def parse_landing(event: Mapping[str, Any]) -> Landing:
    """The change that an event tells of.

    The key is taken as it is: unlike those in S3's own notifications, EventBridge's keys are not URL-encoded, so that a
    plus is a plus and `%20` three characters.

    Raises:
        ValueError: it is no event of an object that was created or deleted.
    """
    read = _Event.model_validate(event)
    changed, marked = read.detail.object, read.detail.deletion_type == "Delete Marker Created"
    return Landing(
        uri=f"s3://{read.detail.bucket.name}/{changed.key}",
        at=read.time.timestamp(),
        kind="created" if read.kind == "Object Created" else "marked" if marked else "deleted",
        # S3's word for the version of what it keeps no versions of: the next write replaces it.
        version_id="" if changed.version_id == "null" else changed.version_id,
        etag=changed.etag.strip('"'),
        bytes=changed.size,
        sequencer=changed.sequencer,
    )
