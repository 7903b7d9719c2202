"""What Spotune tells the outside: events in OpenAI's webhook shape, who wants them, and one delivery of one of them."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal, get_args

from pydantic import Field

from spotune.contracts.base import Contract, Timestamp

Json = dict[str, object]

EventType = Literal[
    "fine_tuning.job.waiting",
    "fine_tuning.job.running",
    "fine_tuning.job.interrupted",
    "fine_tuning.job.paused",
    "fine_tuning.job.succeeded",
    "fine_tuning.job.failed",
    "fine_tuning.job.cancelled",
    "budget.warning",
    "model.promoted",
    "model.rolled_back",
    "model.awaiting_approval",
    "rule.file_quarantined",
    "rule.retraining_refused",
]
"""The last three of a job are OpenAI's own names; the others follow their manner."""

EVENT_TYPES: tuple[EventType, ...] = get_args(EventType)

AnyEventType = EventType | Literal["webhook.test"]
"""What an event can be; a test of an endpoint is asked for by a person."""

WarningLevel = Literal[50, 80, 100]
"""Per cent of a cap or a limit that are warned of."""


class OutwardEvent(Contract):
    """One event as receivers get it: OpenAI's shape. Every delivery of it carries the same `id`."""

    id: str
    object: Literal["event"] = "event"
    created_at: int
    type: AnyEventType
    data: Json


class WebhookEndpoint(Contract):
    """Where a tenant wants its events. Its secret follows from its id and `secret_version`, and is kept nowhere."""

    id: str
    tenant: str
    name: str
    url: str
    event_types: tuple[EventType, ...]
    created_at: Timestamp
    updated_at: Timestamp
    secret_version: int = 1
    old_secret_until: Timestamp = 0
    """Until then deliveries are signed with the secret before, too."""
    disabled_at: Timestamp | None = None
    """Since when its receiver wants nothing any more: it answered 410."""


class ToTopic(Contract):
    """The installation's SNS topic."""

    kind: Literal["topic"] = "topic"


class ToWebhook(Contract):
    """One of the tenant's endpoints."""

    kind: Literal["webhook"] = "webhook"
    endpoint_id: str


Destination = Annotated[ToTopic | ToWebhook, Field(discriminator="kind")]


class Delivery(Contract):
    """One event on its way to one destination. `body` is the event as JSON, the same bytes on every try."""

    tenant: str
    event_id: str
    type: EventType
    destination: Destination
    body: str


def job_event_id(job_id: str, sequence: int, kind: EventType) -> str:
    """The id of what a line of a job's log tells: the same however often it is told."""
    return _event_id(job_id, str(sequence), kind)


def month_event_id(tenant: str, month: str, level: WarningLevel, key: str = "") -> str:
    """The id of a warning of a tenant's month, or of one of its keys': the same however often it is told."""
    return _event_id("month", tenant, month, str(level), *filter(None, (key,)))


def model_event_id(tenant: str, model: str, sequence: int, kind: EventType) -> str:
    """The id of a change of a model version's status: the same however often it is told."""
    return _event_id("model", tenant, model, str(sequence), kind)


def quarantine_event_id(rule_id: str, uri: str, version_id: str) -> str:
    """The id of what is told of a file that a rule does not train on: the same however often it is told."""
    return _event_id("quarantine", rule_id, uri, version_id)


def refusal_event_id(rule_id: str, number: int) -> str:
    """The id of what is told of a retraining of which no job was made: the same however often it is told."""
    return _event_id("refused", rule_id, str(number))


def _event_id(*parts: str) -> str:
    return "evt_" + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
