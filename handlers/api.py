"""The HTTP API: OpenAI's fine-tuning shape, and our own groups beside it."""

from __future__ import annotations

from functools import cache, partial
from http import HTTPStatus
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response

from handlers import openapi
from handlers.audit import audited
from handlers.bodies import as_json, with_readable_body
from handlers.callers import caller_of
from handlers.edge import behind_edge
from handlers.logs import invocation, logger
from handlers.problems import error_response, register
from handlers.routes import (
    accuracy,
    audit_log,
    budget,
    datasets,
    files,
    jobs,
    keys,
    market,
    model_groups,
    models,
    rules,
    webhooks,
)
from spotune.contracts.errors import NotAuthenticated, NotFound, SpotuneError
from spotune.contracts.identity import ApiKey, Scope
from spotune.contracts.subject import know
from spotune.service.access.keys import require
from spotune.service.access.rate import Allowance, count_request, require_room
from spotune.service.installation import Installation, installation

Event = dict[str, Any]

app = APIGatewayHttpResolver(enable_validation=True, serializer=as_json)
for resource in (
    accuracy,
    audit_log,
    budget,
    datasets,
    files,
    jobs,
    keys,
    market,
    model_groups,
    models,
    rules,
    webhooks,
):
    app.include_router(resource.router)
register(app)

OPEN = frozenset({"/openapi.json"})
ASKING = frozenset({"/v1/fine_tuning/plans"})
"""Posted, and changing nothing."""
FOR_ADMINS = ("/v1/audit_log", "/v1/keys", "/v1/webhook_")
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
def handler(event: Event, context: object) -> Event:
    """Lambda's entry point. Who asks, how often and what for is settled before anything else is read."""
    allowance = None
    try:
        here = installation()
        event = behind_edge(here, event)
        if event.get("rawPath") in OPEN:
            return _answer(event, context)
        key, event = _caller(here, event)
        know(tenant=key.tenant)
        allowance = count_request(here, key)
        require_room(key, allowance)
        app.append_context(tenant=key.tenant, key=key)
        carry_out = partial(_answer, event, context, key)
        answer = audited(here, key, event, carry_out) if may_change(event) else carry_out()
    except SpotuneError as error:
        answer = _bare(error)
    return _with_allowance(answer, allowance)


def scope_of(event: Event) -> Scope:
    """What a request needs: keys and webhooks are for admins, looking is for readers, all else changes something."""
    if str(event.get("rawPath", "")).startswith(FOR_ADMINS):
        return "admin"
    return "submit" if may_change(event) else "read"


def may_change(event: Event) -> bool:
    """False for what only looks."""
    method = event.get("requestContext", {}).get("http", {}).get("method", "GET")
    return method not in ("GET", "HEAD") and event.get("rawPath") not in ASKING


def _caller(here: Installation, event: Event) -> tuple[ApiKey, Event]:
    try:
        return caller_of(here, event)
    except NotAuthenticated as refused:
        address = event.get("requestContext", {}).get("http", {}).get("sourceIp")
        logger.warning("nobody who is known", extra={"code": refused.code, "address": address})
        raise


def _answer(event: Event, context: object, key: ApiKey | None = None) -> Event:
    """What the routes answer, once the key may do this and the body can be read."""
    try:
        if key is not None:
            require(key, scope_of(event))
        event = with_readable_body(event)
    except SpotuneError as error:
        return _bare(error)
    return app.resolve(event, context)  # type: ignore[arg-type]


def _with_allowance(answer: Event, allowance: Allowance | None) -> Event:
    """OpenAI's headers of what a key has left, on answers of every kind."""
    if allowance is None:
        return answer
    told = {
        "x-ratelimit-limit-requests": str(allowance.limit),
        "x-ratelimit-remaining-requests": str(allowance.remaining),
        "x-ratelimit-reset-requests": f"{allowance.reset}s",
    }
    return {**answer, "headers": {**answer.get("headers", {}), **told}}


def _bare(error: SpotuneError) -> Event:
    response = error_response(error)
    headers = {"content-type": "application/json", **response.headers}
    return {"statusCode": response.status_code, "headers": headers, "body": response.body}


@cache
def _document() -> str:
    return openapi.document(app)
