"""The HTTP API: OpenAI's fine-tuning shape, and our own groups beside it."""

from __future__ import annotations

from functools import cache
from http import HTTPStatus
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response

from handlers import openapi
from handlers.bodies import as_json, with_readable_body
from handlers.callers import caller_of
from handlers.logs import invocation
from handlers.problems import error_response, register
from handlers.routes import accuracy, budget, datasets, files, jobs, keys, market, model_groups, models, rules, webhooks
from spotune.contracts.errors import NotFound, SpotuneError
from spotune.contracts.identity import Scope
from spotune.contracts.subject import know
from spotune.service.installation import installation
from spotune.service.keys import require
from spotune.service.rate import Allowance, count_request, require_room

app = APIGatewayHttpResolver(enable_validation=True, serializer=as_json)
for resource in (accuracy, budget, datasets, files, jobs, keys, market, model_groups, models, rules, webhooks):
    app.include_router(resource.router)
register(app)

OPEN = frozenset({"/openapi.json"})
ASKING = frozenset({"/v1/fine_tuning/plans"})
"""Posted, and changing nothing."""
FOR_ADMINS = ("/v1/keys", "/v1/webhook_")
"""Beginnings of the paths that need the scope `admin`, whatever is done there."""


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


@invocation("api")
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry point. Who asks, how often and what for is settled before anything else is read."""
    allowance = None
    try:
        if event.get("rawPath") not in OPEN:
            here = installation()
            key, event = caller_of(here, event)
            know(tenant=key.tenant)
            allowance = count_request(here, key)
            require_room(key, allowance)
            require(key, scope_of(event))
            app.append_context(tenant=key.tenant, key=key)
        event = with_readable_body(event)
    except SpotuneError as error:
        return _with_allowance(_bare(error), allowance)
    return _with_allowance(app.resolve(event, context), allowance)  # type: ignore[arg-type]


def scope_of(event: dict[str, Any]) -> Scope:
    """What a request needs: keys and webhooks are for admins, looking is for readers, all else changes something."""
    if str(event.get("rawPath", "")).startswith(FOR_ADMINS):
        return "admin"
    method = event.get("requestContext", {}).get("http", {}).get("method", "GET")
    return "read" if method in ("GET", "HEAD") or event.get("rawPath") in ASKING else "submit"


def _with_allowance(answer: dict[str, Any], allowance: Allowance | None) -> dict[str, Any]:
    """OpenAI's headers of what a key has left, on answers of every kind."""
    if allowance is None:
        return answer
    told = {
        "x-ratelimit-limit-requests": str(allowance.limit),
        "x-ratelimit-remaining-requests": str(allowance.remaining),
        "x-ratelimit-reset-requests": f"{allowance.reset}s",
    }
    return {**answer, "headers": {**answer.get("headers", {}), **told}}


def _bare(error: SpotuneError) -> dict[str, Any]:
    response = error_response(error)
    headers = {"content-type": "application/json", **response.headers}
    return {"statusCode": response.status_code, "headers": headers, "body": response.body}


@cache
def _document() -> str:
    return openapi.document(app)
