"""What requests and answers carry. A body is settled before a route is asked: Powertools fails on unreadable ones."""

from __future__ import annotations

import base64
import json
from typing import Any

import pydantic_core

from spotune.contracts.errors import RequestRefused, TooLarge

JSON = "application/json"
MOST_JSON_BYTES = 262_144
"""Requests have some KB; files come as forms, or go to S3 directly."""
FORM_PATH = "/v1/files"
"""The one path that takes a form as well; its route says what is wrong with one."""


def with_readable_body(event: dict[str, Any]) -> dict[str, Any]:
    """The event, its header names and its media type in lower case, as Powertools compares them.

    Raises:
        RequestRefused: it has a body that is not JSON in UTF-8, nor a form where one is taken.
        TooLarge: it is JSON, and longer than any request is.
    """
    headers = {name.lower(): value for name, value in event.get("headers", {}).items()}
    media_type, semicolon, parameters = headers.get("content-type", "").partition(";")
    media_type = media_type.strip().lower()
    if event.get("body") and (media_type == JSON or event.get("rawPath") != FORM_PATH):
        _check_media_type(media_type)
        _check_json(_text(event))
    return {**event, "headers": {**headers, "content-type": media_type + semicolon + parameters}}


def as_json(answer: object) -> str:
    """An answer's body. A loss that is no number is null: JSON has no NaN, and clients give up on one."""
    return pydantic_core.to_json(answer, inf_nan_mode="null").decode()


def _check_media_type(media_type: str) -> None:
    if media_type not in ("", JSON):
        raise RequestRefused(
            f"The body is {media_type}, which nothing here reads.",
            code="content_type_unsupported",
            remedy=f"Send JSON with the header Content-Type: {JSON}.",
        )


def _text(event: dict[str, Any]) -> str:
    sent: str = event["body"]
    body = base64.b64decode(sent) if event.get("isBase64Encoded") else sent.encode(errors="surrogatepass")
    if len(body) > MOST_JSON_BYTES:
        raise TooLarge(
            f"The body has {len(body):,} bytes; JSON has {MOST_JSON_BYTES:,} at most.",
            code="body_too_large",
            remedy="Upload data with POST /v1/files, and name it by its id.",
        )
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise RequestRefused(
            f"The body is not UTF-8 at byte {error.start}.", code="body_not_utf8", remedy="Send JSON in UTF-8."
        ) from None


def _check_json(text: str) -> None:
    """Python's reader also gives up on numbers of thousands of digits and on deep nesting."""
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestRefused(
            f"The body is not JSON: {error}.",
            code="json_invalid",
            remedy="See /openapi.json for what the route takes.",
        ) from None
