"""Every error as the API's error object."""

from __future__ import annotations

import json
from http import HTTPStatus

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.event_handler.openapi.exceptions import RequestValidationError

from handlers.logs import logger
from spotune.contracts.errors import SpotuneError, TooManyRequests
from spotune.contracts.refusal import refusal


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
    return error_response(refusal(error.errors()))


def _unforeseen(error: Exception) -> Response[str]:
    """The edge of the process: whatever nobody foresaw is logged whole and told in general words only."""
    logger.exception("unforeseen error")
    unforeseen = SpotuneError(
        "Something went wrong on our side.", code="internal_error", remedy="Try again; the log has the details."
    )
    response = error_response(unforeseen)
    response.status_code = HTTPStatus.INTERNAL_SERVER_ERROR
    return response
