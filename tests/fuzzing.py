"""Requests made up from the API's own OpenAPI document, right and wrong ones, and what is held of the answers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
Send = Callable[[requests.PreparedRequest], Response]
Known = Mapping[str, str]
"""Ids that exist, by the parameter or the field that takes them."""


def explore(
    document: dict[str, Any], send: Send, known: Known, *, number: int, examples: int, seconds: float
) -> Counter[int]:
    """Send requests of every operation in turn, and check each answer against the document.

    Args:
        known: what really is there, put into half of the requests.
        number: the seed; the same requests come again with it.
        examples: of each operation, right and wrong ones apart.
        seconds: no further operation begins after so long.

    Returns:
        How often each status came.
    """
    statuses: Counter[int] = Counter()
    deadline = time.monotonic() + seconds
    for mode in (GenerationMode.NEGATIVE, GenerationMode.POSITIVE):
        for result in schemathesis.openapi.from_dict(document).get_all_operations():
            if time.monotonic() < deadline:
                _explore_one(result.ok(), mode, send, known, number, examples, deadline, statuses)
    return statuses


def _explore_one(
    operation: Any,
    mode: GenerationMode,
    send: Send,
    known: Known,
    number: int,
    examples: int,
    deadline: float,
    statuses: Counter[int],
) -> None:
    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(case=operation.as_strategy(generation_mode=mode), real=st.booleans(), twice=st.booleans())
    def tried(case: Any, real: bool, twice: bool) -> None:
        if time.monotonic() > deadline:
            return
        if real:
            _put_in(known, case)
        request = requests.Request(**_arguments(case)).prepare()
        path, _, query = (request.url or "").partition("?")
        if "%0A" in path.upper():
            return  # the emulator's gateway finds no route for a path of several lines
        if twice and query:
            request.url = f"{path}?{query}&{query}"
        answer = send(request)
        statuses[answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS)

    tried()


def _put_in(known: Known, case: Any) -> None:
    for place in (case.path_parameters, case.body):
        if isinstance(place, dict):
            place.update({name: value for name, value in known.items() if name in place})


def _arguments(case: Any) -> dict[str, Any]:
    kept = ("method", "url", "headers", "files", "data", "json", "params", "cookies")
    made = case.as_transport_kwargs(base_url="http://127.0.0.1")
    return {name: made[name] for name in kept if name in made}
