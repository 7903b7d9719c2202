"""Uploaded files."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from spotune.contracts.base import Contract, Timestamp

FILE_NAME_BYTES = 255
"""What a file system takes for a name: the training job finds the file under it."""


def _can_name_a_file(name: str) -> str:
    if len(name.encode()) > FILE_NAME_BYTES or name in (".", ".."):
        raise ValueError(f"a file's name has {FILE_NAME_BYTES} bytes at most, and is neither . nor ..")
    return name


FileName = Annotated[str, StringConstraints(pattern=r"^[^/\\\x00-\x1f]+$"), AfterValidator(_can_name_a_file)]

DIRECT_UPLOAD_BYTES = 4_500_000
"""What one request can carry: Lambda takes 6 MB, and API Gateway sends binary bodies as base64."""


class FileRecord(Contract):
    """`status` is `uploading` between the parts of a multipart upload; only `processed` files can be trained on."""

    id: str
    tenant: str
    filename: FileName
    purpose: Literal["fine-tune"] = "fine-tune"
    bytes: int
    created_at: Timestamp
    status: Literal["uploading", "processed"]
    uri: str
    sha256: str | None = None
    upload_id: str | None = None


class UploadRequest(Contract):
    """JSON form of `POST /v1/files`: asks for presigned URLs instead of carrying the bytes."""

    filename: FileName
    bytes: Annotated[int, Field(gt=0, le=5 * 1024**4)]
    purpose: Literal["fine-tune"] = "fine-tune"


class UploadPart(Contract):
    """One part of a multipart upload: PUT `bytes` bytes from `offset` of the file to `url`."""

    number: int
    url: str
    offset: int
    bytes: int


class UploadTicket(Contract):
    """Where to PUT each part. `done` lists the parts S3 already has, so that an upload can go on."""

    file: FileRecord
    parts: tuple[UploadPart, ...]
    done: tuple[int, ...] = ()
    expires_at: Timestamp
