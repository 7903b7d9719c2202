"""Webhook endpoints of a tenant: made, listed, changed, tested and deleted by its admins."""

from __future__ import annotations

import secrets

from spotune.aws.base import NoAnswer, WebhookRefused
from spotune.contracts.base import Seconds
from spotune.contracts.errors import Conflict, NotFound, RequestRefused
from spotune.contracts.notifications import AnyEventType, OutwardEvent, WebhookEndpoint
from spotune.contracts.webhooks import WebhookChange, WebhookRequest
from spotune.service.installation import Installation
from spotune.service.notifications.deliver import post
from spotune.service.notifications.signatures import secret_of

MOST_ENDPOINTS = 10
"""Of one tenant: every event is delivered to each. Two creations at the same moment may exceed it by one."""

OLD_SECRET: Seconds = 24 * 3600
"""How long a secret that was replaced is still signed with, where that is asked for."""


def create(here: Installation, tenant: str, request: WebhookRequest) -> tuple[WebhookEndpoint, str]:
    """A new endpoint, and its secret in clear: this once.

    Raises:
        RequestRefused: the URL leads to where nothing is sent (`webhook_url_invalid`, `webhook_address_refused`).
        Conflict: the tenant has as many as it may.
    """
    if len(here.store.list_webhooks(tenant)) >= MOST_ENDPOINTS:
        raise Conflict(
            f"A tenant has {MOST_ENDPOINTS} webhook endpoints at most.",
            code="too_many_webhooks",
            remedy="Delete one, or let one endpoint take more event types.",
        )
    _check(here, request.url)
    now = here.clock()
    endpoint = WebhookEndpoint(
        id="we_" + secrets.token_hex(16),
        tenant=tenant,
        name=request.name,
        url=request.url,
        event_types=request.event_types,
        created_at=now,
        updated_at=now,
    )
    secret = secret_of(here.outlets.secret.value(), endpoint)
    here.store.create_webhook(endpoint)
    return endpoint, secret


def list_endpoints(here: Installation, tenant: str) -> tuple[WebhookEndpoint, ...]:
    """The tenant's endpoints, newest first."""
    return here.store.list_webhooks(tenant)


def endpoint_of(here: Installation, tenant: str, endpoint_id: str) -> WebhookEndpoint:
    """One endpoint.

    Raises:
        NotFound: the tenant has no such endpoint.
    """
    endpoint = here.store.get_webhook(tenant, endpoint_id)
    if endpoint is None:
        raise _not_found(endpoint_id)
    return endpoint


def change(here: Installation, tenant: str, endpoint_id: str, wanted: WebhookChange) -> WebhookEndpoint:
    """Change what is named. An endpoint that was disabled is enabled again.

    Raises:
        NotFound: as `endpoint_of`.
        RequestRefused: as `create`.
    """
    endpoint = endpoint_of(here, tenant, endpoint_id)
    if wanted.url is not None:
        _check(here, wanted.url)
    changes = wanted.model_dump(exclude_none=True)
    return _replace(here, endpoint.with_(**changes, updated_at=here.clock(), disabled_at=None))


def rotate_secret(here: Installation, tenant: str, endpoint_id: str, *, keep_old: bool) -> tuple[WebhookEndpoint, str]:
    """Give an endpoint another secret, in clear this once; with `keep_old` the one before is signed with for a day.

    Raises:
        NotFound: as `endpoint_of`.
    """
    endpoint, now = endpoint_of(here, tenant, endpoint_id), here.clock()
    until = now + OLD_SECRET if keep_old else 0
    changes = {"secret_version": endpoint.secret_version + 1, "old_secret_until": until, "updated_at": now}
    changed = endpoint.with_(**changes)
    secret = secret_of(here.outlets.secret.value(), changed)
    return _replace(here, changed), secret


def delete(here: Installation, tenant: str, endpoint_id: str) -> None:
    """Forget an endpoint; what is on its way to it is dropped.

    Raises:
        NotFound: as `endpoint_of`.
    """
    if not here.store.delete_webhook(tenant, endpoint_id):
        raise _not_found(endpoint_id)


def send_test(here: Installation, tenant: str, endpoint_id: str, kind: AnyEventType) -> int:
    """Post a sample event now, once; the status that the receiver answered.

    Raises:
        NotFound: as `endpoint_of`.
        RequestRefused: there was no answer (`webhook_silent`), or nothing may be sent there.
    """
    endpoint = endpoint_of(here, tenant, endpoint_id)
    event = OutwardEvent(
        id="evt_" + secrets.token_hex(16),
        created_at=int(here.clock()),
        type=kind,
        data={"id": "ftjob-test", "tenant": tenant, "message": "A test of this endpoint.", "test": True},
    )
    try:
        return post(here, endpoint, event.id, event.model_dump_json().encode())
    except NoAnswer as error:
        raise RequestRefused(
            f"{endpoint.url} did not answer: {error}.",
            code="webhook_silent",
            remedy="Start the receiver, then test it again.",
        ) from error
    except WebhookRefused as error:
        raise _address_refused(error) from error


def _check(here: Installation, url: str) -> None:
    try:
        here.outlets.webhooks.check(url)
    except NoAnswer as error:
        raise RequestRefused(
            f"{error}.", code="webhook_host_unknown", param="url", remedy="Check the name, or publish it first."
        ) from error
    except WebhookRefused as error:
        raise _address_refused(error) from error


def _address_refused(error: WebhookRefused) -> RequestRefused:
    return RequestRefused(
        f"Nothing is sent there: {error}.",
        code="webhook_address_refused",
        param="url",
        remedy="Use an address that the public internet reaches, or have the installation open its network "
        "(SPOTUNE_WEBHOOK_NETWORKS).",
    )


def _replace(here: Installation, endpoint: WebhookEndpoint) -> WebhookEndpoint:
    if not here.store.replace_webhook(endpoint):
        raise _not_found(endpoint.id)
    return endpoint


def _not_found(endpoint_id: str) -> NotFound:
    return NotFound(
        f"No webhook endpoint {endpoint_id!r}.",
        code="webhook_not_found",
        remedy="List yours with `spotune webhooks list` or GET /v1/webhook_endpoints.",
    )
