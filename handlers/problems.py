"""Every error as the API's error object."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.event_handler.openapi.exceptions import RequestValidationError
from pydantic import ValidationError

from handlers.logs import logger
from spotune.contracts.errors import RequestRefused, SpotuneError, TooManyRequests


def register(app: APIGatewayHttpResolver) -> None:
    """Teach the resolver our errors, the validator's, and those that nobody foresaw."""
    app.exception_handler(SpotuneError)(error_response)
    app.exception_handler(RequestValidationError)(_invalid)
    app.exception_handler(Exception)(_unforeseen)


def error_response(error: SpotuneError) -> Response[str]:
    """The error object with its status."""
    headers: dict[str, str | list[str]] = {}
    if isinstance(error, TooManyRequests):
        headers["retry-after"] = str(error.retry_after)
    body = json.dumps(error.body())
    return Response(status_code=error.status, content_type="application/json", body=body, headers=headers)


def _invalid(error: RequestValidationError) -> Response[str]:
    return error_response(refusal(error))


def refusal(error: RequestValidationError | ValidationError) -> RequestRefused:
    """What is wrong with a body, each field by its name."""
    faults = [_fault(one) for one in error.errors()]
    first = faults[0]
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return RequestRefused(
        f"{first['message']}{more}",
        code=first["code"],
        param=first["param"] or None,
        remedy="See /openapi.json for what the field takes.",
        details={"faults": faults} if more else None,
    )


def _fault(one: Mapping[str, Any]) -> dict[str, str]:
    where = _dotted(one.get("loc", ()))
    what = f"Field `{where}`" if where else "The body"
    kind = str(one.get("type", "invalid"))
    if kind == "extra_forbidden":
        return {"param": where, "code": "unknown_field", "message": f"Unknown field `{where}`."}
    if kind == "missing":
        return {"param": where, "code": "missing_field", "message": f"{what} is required."}
    if kind.startswith("json"):
        return {"param": "", "code": "json_invalid", "message": f"The body is not JSON: {one.get('msg')}."}
    return {"param": where, "code": "invalid_value", "message": f"{what}: {one.get('msg')}."}


def _dotted(loc: Sequence[object]) -> str:
    parts = [str(part) for part in loc if part not in ("body", "query", "path")]
    return ".".join(parts)


def _unforeseen(error: Exception) -> Response[str]:
    """The edge of the process: whatever nobody foresaw is logged whole and told in general words only."""
    logger.exception("unforeseen error")
    unforeseen = SpotuneError(
        "Something went wrong on our side.", code="internal_error", remedy="Try again; the log has the details."
    )
    response = error_response(unforeseen)
    response.status_code = HTTPStatus.INTERNAL_SERVER_ERROR
    return response
