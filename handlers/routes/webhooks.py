"""`/v1/webhook_endpoints`, in OpenAI's shape: for keys with the scope `admin`."""

from __future__ import annotations

from typing import Annotated

from aws_lambda_powertools.event_handler.api_gateway import Router
from aws_lambda_powertools.event_handler.openapi.params import Body

from handlers.routes.paging import After, Limit, list_object, page_after
from spotune.contracts.api import ListObject
from spotune.contracts.webhooks import (
    DeletedWebhookObject,
    EventTypesObject,
    NewWebhookObject,
    WebhookChange,
    WebhookObject,
    WebhookRequest,
    WebhookRotation,
    WebhookTest,
    WebhookTestObject,
)
from spotune.service import views
from spotune.service.installation import installation
from spotune.service.notifications import webhooks

router = Router()
ENDPOINTS = "/v1/webhook_endpoints"
ENDPOINT = ENDPOINTS + "/<endpoint_id>"


@router.post(ENDPOINTS, tags=["webhooks"], summary="Have your tenant's events posted to a URL")
def create(request: Annotated[WebhookRequest, Body()]) -> NewWebhookObject:
    """The answer is the only place where the signing secret stands in clear."""
    endpoint, secret = webhooks.create(installation(), router.context["tenant"], request)
    return NewWebhookObject(**dict(views.webhook_object(endpoint)), signing_secret=secret)


@router.get(ENDPOINTS, tags=["webhooks"], summary="List your tenant's webhook endpoints, newest first")
def list_endpoints(after: After = None, limit: Limit = 20) -> ListObject[WebhookObject]:
    """Without their secrets."""
    kept = webhooks.list_endpoints(installation(), router.context["tenant"])
    found = [views.webhook_object(endpoint) for endpoint in kept]
    page, has_more = page_after(found, after, limit)
    return list_object(page, has_more=has_more)


@router.get(ENDPOINT, tags=["webhooks"], summary="One webhook endpoint")
def retrieve(endpoint_id: str) -> WebhookObject:
    """Without its secret."""
    return views.webhook_object(webhooks.endpoint_of(installation(), router.context["tenant"], endpoint_id))


@router.post(ENDPOINT, tags=["webhooks"], summary="Change a webhook endpoint, or enable it again")
def change(endpoint_id: str, request: Annotated[WebhookChange, Body()]) -> WebhookObject:
    """What is left out stays."""
    return views.webhook_object(webhooks.change(installation(), router.context["tenant"], endpoint_id, request))


@router.delete(ENDPOINT, tags=["webhooks"], summary="Delete a webhook endpoint")
def delete(endpoint_id: str) -> DeletedWebhookObject:
    """What is on its way to it is dropped."""
    webhooks.delete(installation(), router.context["tenant"], endpoint_id)
    return DeletedWebhookObject(id=endpoint_id, deleted=True)


@router.post(ENDPOINT + "/rotate_secret", tags=["webhooks"], summary="Give a webhook endpoint another secret")
def rotate_secret(endpoint_id: str, request: Annotated[WebhookRotation, Body()]) -> NewWebhookObject:
    """In clear in this answer alone."""
    here, tenant = installation(), router.context["tenant"]
    keep_old = request.keep_old_secret_active_for_24_hours
    endpoint, secret = webhooks.rotate_secret(here, tenant, endpoint_id, keep_old=keep_old)
    return NewWebhookObject(**dict(views.webhook_object(endpoint)), signing_secret=secret)


@router.post(ENDPOINT + "/test", tags=["webhooks"], summary="Post a sample event now")
def send_test(endpoint_id: str, request: Annotated[WebhookTest, Body()]) -> WebhookTestObject:
    """Once, and its status is the answer."""
    status = webhooks.send_test(installation(), router.context["tenant"], endpoint_id, request.event_type)
    return WebhookTestObject(webhook_endpoint_id=endpoint_id, event_type=request.event_type, status_code=status)


@router.get("/v1/webhook_event_types", tags=["webhooks"], summary="Every event type that can be asked for")
def list_event_types() -> EventTypesObject:
    """Their meanings are in docs/notifications.md."""
    return EventTypesObject()
