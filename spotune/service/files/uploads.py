"""Uploaded files: small ones in one request, large ones by presigned S3 multipart URLs."""

from __future__ import annotations

import hashlib

from pydantic import TypeAdapter, ValidationError

from spotune.aws.base import ObjectMissing
from spotune.aws.parts import part_bytes
from spotune.contracts import layout
from spotune.contracts.errors import Conflict, NotFound, RequestRefused, TooLarge
from spotune.contracts.files import (
    DIRECT_UPLOAD_BYTES,
    FILE_NAME_BYTES,
    FileName,
    FileRecord,
    UploadPart,
    UploadRequest,
    UploadTicket,
)
from spotune.service.files.copies import delete_copies
from spotune.service.identifiers import new_file_id
from spotune.service.installation import Installation
from spotune.store.page import Page

TICKET_SECONDS = 12 * 3600

_FILE_NAME: TypeAdapter[str] = TypeAdapter(FileName)


def upload(here: Installation, tenant: str, filename: str, body: bytes) -> FileRecord:
    """Keep a file that came in one request.

    Raises:
        RequestRefused: it is empty, or its name cannot name a file.
        TooLarge: it is larger than a request can carry on AWS; the remedy names the other way.
    """
    if not body:
        raise RequestRefused("The file is empty.", code="file_empty", param="file", remedy="Upload one with rows.")
    if len(body) > DIRECT_UPLOAD_BYTES:
        raise too_large(len(body))
    record = _new_record(here, tenant, _valid_name(filename), len(body))
    here.objects.write(record.uri, body)
    record = record.with_(status="processed", sha256=hashlib.sha256(body).hexdigest())
    here.store.put_file(record)
    return record


def too_large(size: int) -> TooLarge:
    """The refusal of a body beyond what API Gateway and Lambda carry."""
    return TooLarge(
        f"The file has {size} bytes; one request carries {DIRECT_UPLOAD_BYTES} at most.",
        code="file_too_large",
        param="file",
        remedy='POST {"filename", "bytes", "purpose"} as JSON to the same route for presigned upload URLs '
        "(the spotune CLI does it by itself), or give an s3:// URI as training_file.",
    )


def start_upload(here: Installation, tenant: str, request: UploadRequest) -> UploadTicket:
    """Begin a multipart upload and say where each part goes."""
    record = _new_record(here, tenant, request.filename, request.bytes)
    record = record.with_(upload_id=here.objects.start_upload(record.uri))
    here.store.put_file(record)
    return _ticket(here, record)


def upload_ticket(here: Installation, tenant: str, file_id: str) -> UploadTicket:
    """The ticket of an upload under way, with fresh URLs and the parts that S3 already has.

    Raises:
        Conflict: it is complete, or S3 has dropped it.
    """
    return _ticket(here, _uploading(here, tenant, file_id))


def complete_upload(here: Installation, tenant: str, file_id: str) -> FileRecord:
    """Close a multipart upload; a second call answers the same.

    Raises:
        Conflict: parts are missing, the bytes are not as many as were announced, or S3 has dropped the upload.
    """
    record = file_of(here, tenant, file_id)
    if record.status == "processed":
        return record
    if here.objects.head(record.uri) is None:
        _refuse_missing_parts(here, record)
        _join_parts(here, record)
    record = record.with_(status="processed", upload_id=None)
    here.store.put_file(record)
    return record


def file_of(here: Installation, tenant: str, file_id: str, param: str | None = None) -> FileRecord:
    """A tenant's file.

    Raises:
        NotFound: there is none of this id, for this tenant.
    """
    record = here.store.get_file(tenant, file_id)
    if record is None:
        raise NotFound(
            f"No file {file_id!r}.", code="file_not_found", param=param, remedy="List yours with GET /v1/files."
        )
    return record


def list_files(
    here: Installation, tenant: str, *, after: str | None, limit: int, ascending: bool = False
) -> Page[FileRecord]:
    """A page of a tenant's files."""
    return here.store.list_files(tenant, after=after, limit=limit, ascending=ascending)


def content(here: Installation, tenant: str, file_id: str) -> bytes:
    """A small file's bytes.

    Raises:
        NotFound: no such file, or its object is gone.
        Conflict: its upload is not complete.
        TooLarge: more than a response can carry.
    """
    record = file_of(here, tenant, file_id)
    if record.status != "processed":
        raise Conflict(
            f"File {file_id} is still being uploaded.", code="file_uploading", remedy="Complete its upload first."
        )
    if record.bytes > DIRECT_UPLOAD_BYTES:
        raise TooLarge(
            f"The file has {record.bytes} bytes; a response carries {DIRECT_UPLOAD_BYTES} at most.",
            code="file_too_large",
            remedy=f"Read it from S3: {record.uri}",
        )
    try:
        return here.objects.read(record.uri)
    except ObjectMissing:
        raise NotFound(f"The object of file {file_id} is gone from S3.", code="file_object_missing") from None


def delete(here: Installation, tenant: str, file_id: str) -> None:
    """Delete a file, its object and its copies (the buckets' versions are kept by their own rules)."""
    record = file_of(here, tenant, file_id)
    if record.upload_id is not None:
        here.objects.abort_upload(record.uri, record.upload_id)
    here.objects.delete(record.uri)
    delete_copies(here, tenant, record.uri)
    here.store.delete_file(tenant, file_id)


def _valid_name(filename: str) -> str:
    try:
        return _FILE_NAME.validate_python(filename)
    except ValidationError:
        raise RequestRefused(
            f"A file cannot be called {filename[:80]!r}.",
            code="filename_invalid",
            param="file",
            remedy=f"Use {FILE_NAME_BYTES} bytes at most, without slashes and control characters.",
        ) from None


def _new_record(here: Installation, tenant: str, filename: str, size: int) -> FileRecord:
    file_id = new_file_id()
    return FileRecord(
        id=file_id,
        tenant=tenant,
        filename=filename,
        bytes=size,
        created_at=here.clock(),
        status="uploading",
        uri=layout.file_uri(here.settings.data_bucket, tenant, file_id, filename),
    )


def _uploading(here: Installation, tenant: str, file_id: str) -> FileRecord:
    record = file_of(here, tenant, file_id)
    if record.upload_id is None:
        raise Conflict(f"File {file_id} is not being uploaded.", code="file_not_uploading")
    return record


def _ticket(here: Installation, record: FileRecord) -> UploadTicket:
    upload_id = record.upload_id or ""
    wanted = _wanted(record)
    parts = tuple(
        UploadPart(
            number=number,
            url=here.objects.presign_part(record.uri, upload_id, number, TICKET_SECONDS),
            offset=(number - 1) * part_bytes(record.bytes),
            bytes=length,
        )
        for number, length in wanted.items()
    )
    done = tuple(number for number, length in _arrived(here, record).items() if length == wanted.get(number))
    return UploadTicket(file=record, parts=parts, done=done, expires_at=here.clock() + TICKET_SECONDS)


def _refuse_missing_parts(here: Installation, record: FileRecord) -> None:
    wanted, arrived = _wanted(record), _arrived(here, record)
    missing = [number for number, length in wanted.items() if arrived.get(number) != length]
    if missing or len(arrived) > len(wanted):
        raise Conflict(
            f"The upload of file {record.id} is not complete: {len(missing)} of {len(wanted)} parts are missing or "
            f"of another size (first: {missing[:5]}).",
            code="upload_incomplete",
            remedy=f"GET /v1/files/{record.id}/upload for their URLs, PUT them, and complete again.",
        )


def _join_parts(here: Installation, record: FileRecord) -> None:
    try:
        here.objects.complete_upload(record.uri, record.upload_id or "")
    except ObjectMissing:
        raise _expired(record) from None


def _wanted(record: FileRecord) -> dict[int, int]:
    """Bytes of every part, by number."""
    size, total = part_bytes(record.bytes), record.bytes
    return {number: min(size, total - offset) for number, offset in enumerate(range(0, total, size), start=1)}


def _arrived(here: Installation, record: FileRecord) -> dict[int, int]:
    """Bytes of every part that S3 has, by number: all of them where another call has just joined them."""
    try:
        return {part.number: part.bytes for part in here.objects.uploaded_parts(record.uri, record.upload_id or "")}
    except ObjectMissing:
        if here.objects.head(record.uri) is None:
            raise _expired(record) from None
        return _wanted(record)


def _expired(record: FileRecord) -> Conflict:
    return Conflict(
        f"S3 has dropped the upload of file {record.id}.",
        code="upload_expired",
        remedy=f"DELETE /v1/files/{record.id}, and start again with POST /v1/files.",
    )
