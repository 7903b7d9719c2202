"""Multipart forms, as `POST /v1/files` takes them."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP

from aws_lambda_powertools.utilities.data_classes.common import BaseProxyEvent

from spotune.contracts.errors import RequestRefused
from spotune.contracts.files import DIRECT_UPLOAD_BYTES
from spotune.service.files.uploads import too_large

FORM_OVERHEAD = 16_384
"""Boundaries and headers beside the file's own bytes."""


@dataclass(frozen=True, slots=True)
class UploadForm:
    """The fields of an upload."""

    filename: str
    purpose: str
    body: bytes


def read_form(event: BaseProxyEvent) -> UploadForm:
    """The form of a request.

    Raises:
        TooLarge: more than a request can carry on AWS; the emulator would take it.
        RequestRefused: no form, or no file in it.
    """
    raw = _body(event)
    if len(raw) > DIRECT_UPLOAD_BYTES + FORM_OVERHEAD:
        raise too_large(len(raw))
    content_type = event.headers.get("content-type", "")
    if not content_type.startswith("multipart/form-data"):
        raise _no_form(f"The body is {content_type or 'of no type'}, not a form.")
    form = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + raw)
    fields = {_name(part): part for part in form.iter_parts()} if form.is_multipart() else {}
    upload = fields.get("file")
    if upload is None:
        raise _no_form("The form has no field `file`.")
    purpose = _bytes(fields["purpose"]).decode(errors="replace") if "purpose" in fields else ""
    return UploadForm(_base_name(upload.get_filename() or ""), purpose.strip(), _bytes(upload))


def _base_name(path: str) -> str:
    """Some clients send the whole path, in their system's spelling."""
    return re.split(r"[/\\]", path)[-1] or "upload.jsonl"


def _bytes(part: Message) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _body(event: BaseProxyEvent) -> bytes:
    body = event.body or ""
    if not event.is_base64_encoded:
        return body.encode()
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise _no_form(f"The body is not base64: {error}.") from None


def _name(part: Message) -> str:
    return str(part.get_param("name", "", header="content-disposition"))


def _no_form(what: str) -> RequestRefused:
    return RequestRefused(
        what, code="form_invalid", param="file", remedy="Send multipart/form-data with the fields file and purpose."
    )
