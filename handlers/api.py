"""The HTTP API: OpenAI's fine-tuning shape, and our own groups beside it."""

from __future__ import annotations

from functools import cache
from http import HTTPStatus
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response

from handlers import openapi
from handlers.bodies import with_readable_body
from handlers.problems import error_response, register
from handlers.routes import accuracy, budget, files, jobs, keys, market, models
from spotune.contracts.errors import NotFound, SpotuneError
from spotune.contracts.identity import Scope
from spotune.service.installation import installation
from spotune.service.keys import authenticate, require

logger = Logger(service="api")
app = APIGatewayHttpResolver(enable_validation=True)
for resource in (accuracy, budget, files, jobs, keys, market, models):
    app.include_router(resource.router)
register(app)

OPEN = frozenset({"/openapi.json"})
ASKING = frozenset({"/v1/fine_tuning/plans"})
"""Posted, and changing nothing."""


@app.get("/openapi.json", include_in_schema=False)
def document() -> Response[str]:
    """The API's OpenAPI document, generated from the routes."""
    return Response(status_code=HTTPStatus.OK, content_type="application/json", body=_document())


@app.not_found
def not_found(_: Exception) -> Response[str]:
    """An unknown route."""
    event = app.current_event
    return error_response(
        NotFound(f"No route {event.http_method} {event.path}.", code="route_not_found", remedy="See /openapi.json.")
    )


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry point. Who asks is settled before anything else is read."""
    try:
        if event.get("rawPath") not in OPEN:
            headers = {name.lower(): value for name, value in event.get("headers", {}).items()}
            key = authenticate(installation(), headers.get("authorization"))
            require(key, _scope_of(event))
            app.append_context(tenant=key.tenant, key=key)
        event = with_readable_body(event)
    except SpotuneError as error:
        return _bare(error)
    return app.resolve(event, context)  # type: ignore[arg-type]


def _scope_of(event: dict[str, Any]) -> Scope:
    """What a request needs: keys are for admins, looking is for readers, and all else changes something."""
    if str(event.get("rawPath", "")).startswith("/v1/keys"):
        return "admin"
    method = event.get("requestContext", {}).get("http", {}).get("method", "GET")
    return "read" if method in ("GET", "HEAD") or event.get("rawPath") in ASKING else "submit"


def _bare(error: SpotuneError) -> dict[str, Any]:
    response = error_response(error)
    return {"statusCode": response.status_code, "headers": {"content-type": "application/json"}, "body": response.body}


@cache
def _document() -> str:
    return openapi.document(app)
