"""Calls that may change something, and what the audit log says of each."""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from spotune.contracts.identity import ApiKey
from spotune.service.access import audit
from spotune.service.installation import Installation

Event = dict[str, Any]
Answer = dict[str, Any]


def audited(here: Installation, key: ApiKey, event: Event, carry_out: Callable[[], Answer]) -> Answer:
    """Carry a call out between the two records of it.

    Raises:
        Unavailable: the first cannot be written; nothing was done.
    """
    context = event["requestContext"]
    action = f"{context['http']['method']} {event['rawPath']}"
    address = context["http"].get("sourceIp")
    record = audit.begin(here, key, action, request_id=str(context.get("requestId", "")), address=address)
    answer = carry_out()
    audit.end(here, record, answer["statusCode"], **_told(answer))
    return answer


def _told(answer: Answer) -> dict[str, Any]:
    """The error's code, or the id of what was made or changed. What was done is answered, whatever the answer lacks."""
    try:
        body = json.loads(answer["body"])
        if answer["statusCode"] >= HTTPStatus.BAD_REQUEST:
            return {"code": body["error"]["code"]}
        return {"target": body["id"]}
    except (ValueError, LookupError, TypeError):
        return {}
