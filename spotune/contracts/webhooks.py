"""What the API takes and answers of webhook endpoints: OpenAI's objects, and one `spotune` object beside them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from spotune.contracts.base import Contract
from spotune.contracts.notifications import EVENT_TYPES, AnyEventType, EventType

Name = Annotated[str, Field(min_length=1, max_length=64)]
Url = Annotated[str, Field(min_length=1, max_length=2048)]
EventTypes = Annotated[tuple[EventType, ...], Field(min_length=1, max_length=32)]


class WebhookObject(Contract):
    """OpenAI's webhook endpoint. `spotune` holds what it lacks."""

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    created_at: int
    updated_at: int
    name: str
    url: str
    event_types: tuple[EventType, ...]
    spotune: WebhookDetails


class WebhookDetails(Contract):
    """Since when the endpoint gets nothing, its receiver having answered 410; None while it does."""

    disabled_at: int | None


class NewWebhookObject(WebhookObject):
    """An endpoint with its new secret in clear: this once."""

    signing_secret: str


class WebhookRequest(Contract):
    """Where a tenant wants its events, and which; all of them where none is named."""

    name: Name
    url: Url
    event_types: EventTypes = EVENT_TYPES


class WebhookChange(Contract):
    """What is to be changed of an endpoint."""

    name: Name | None = None
    url: Url | None = None
    event_types: EventTypes | None = None


class WebhookRotation(Contract):
    """How a secret is replaced."""

    keep_old_secret_active_for_24_hours: bool = False


class WebhookTest(Contract):
    """Which sample is sent."""

    event_type: AnyEventType = "webhook.test"


class WebhookTestObject(Contract):
    """What the receiver answered."""

    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"
    webhook_endpoint_id: str
    event_type: AnyEventType
    status_code: int
    success: Literal[True] = True


class DeletedWebhookObject(Contract):
    """What the deletion of an endpoint answers."""

    id: str
    object: Literal["webhook_endpoint.deleted"] = "webhook_endpoint.deleted"
    deleted: bool


class EventTypesObject(Contract):
    """Every event type that an endpoint can ask for."""

    object: Literal["list"] = "list"
    data: tuple[EventType, ...] = EVENT_TYPES
