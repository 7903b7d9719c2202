"""Who asks: by a key, by a signature or by a token, as the path's beginning says.

    /v1/...       a bearer key in the header Authorization
    /iam/v1/...   a signature that API Gateway has checked: requestContext.authorizer.iam
    /jwt/v1/...   a token that API Gateway has verified: requestContext.authorizer.jwt

Only API Gateway writes `requestContext`. Behind /iam/ and /jwt/ no header is looked at, and none of the three falls
back to another: without its own kind of context a request is nobody's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from spotune.contracts.identity import ApiKey
from spotune.service.access.keys import authenticate
from spotune.service.access.principals import authenticate_iam, authenticate_jwt
from spotune.service.installation import Installation

Event = dict[str, Any]


def caller_of(here: Installation, event: Event) -> tuple[ApiKey, Event]:
    """Who asks, and the event as the routes know it, without the path's beginning.

    Raises:
        NotAuthenticated: nobody, or nobody who is known.
    """
    path = str(event.get("rawPath", ""))
    for prefix, authenticated in _BY_CONTEXT.items():
        if path == prefix or path.startswith(f"{prefix}/"):
            return authenticated(here, event), _without(prefix, event)
    return authenticate(here, _authorization(event)), event


def _by_signature(here: Installation, event: Event) -> ApiKey:
    return authenticate_iam(here, _mapping(_authorizer(event).get("iam")))


def _by_token(here: Installation, event: Event) -> ApiKey:
    return authenticate_jwt(here, _mapping(_mapping(_authorizer(event).get("jwt")).get("claims")))


_BY_CONTEXT: dict[str, Callable[[Installation, Event], ApiKey]] = {"/iam": _by_signature, "/jwt": _by_token}


def _authorizer(event: Event) -> Mapping[str, Any]:
    return _mapping(_mapping(event.get("requestContext")).get("authorizer"))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _without(prefix: str, event: Event) -> Event:
    path = str(event["rawPath"]).removeprefix(prefix) or "/"
    context = event["requestContext"]
    return {**event, "rawPath": path, "requestContext": {**context, "http": {**context["http"], "path": path}}}


def _authorization(event: Event) -> str | None:
    """The one such header. API Gateway joins several with commas, which no key contains."""
    sent = [value for name, value in _mapping(event.get("headers")).items() if name.lower() == "authorization"]
    return str(sent[0]) if len(sent) == 1 else None
