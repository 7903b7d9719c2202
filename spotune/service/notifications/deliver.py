"""One try to deliver one event to one destination, and when to try again."""

from __future__ import annotations

import logging
import secrets
from http import HTTPStatus

from spotune.aws.base import AwsRefused, NoAnswer, WebhookRefused
from spotune.contracts.base import Seconds
from spotune.contracts.errors import RequestRefused, Unavailable
from spotune.contracts.notifications import Delivery, ToTopic, WebhookEndpoint
from spotune.service.installation import Installation
from spotune.service.notifications.signatures import secret_of, signed_headers

PAUSES: tuple[Seconds, ...] = (10, 60, 300, 1800, 7200, 18_000, 36_000)
"""Seconds after the first failed try, after the second, and so on: 17 and a half hours in all."""

TRIES = len(PAUSES) + 1
"""The queue's maxReceiveCount: what fails so often lies with the dead letters."""

JITTER = 0.2
"""A pause is longer by up to this share, so that what failed together does not come back together."""

_RANDOM = secrets.SystemRandom()
logger = logging.getLogger(__name__)


def deliver(here: Installation, delivery: Delivery, tries: int) -> Seconds | None:
    """Deliver once. None where nothing is left to do, else the seconds after which to try again.

    Args:
        here: the installation.
        delivery: what to deliver.
        tries: how often it has been tried, this time included.
    """
    try:
        failed = _try(here, delivery)
    except (AwsRefused, NoAnswer, RequestRefused, Unavailable, WebhookRefused) as error:
        failed = str(error)
    return _again(delivery, failed, tries) if failed else None


def _try(here: Installation, delivery: Delivery) -> str:
    """Empty where nothing is left to do, else what the receiver answered."""
    if isinstance(delivery.destination, ToTopic):
        here.outlets.topic.publish(delivery.body, {"tenant": delivery.tenant, "type": delivery.type})
        return ""
    endpoint = here.store.get_webhook(delivery.tenant, delivery.destination.endpoint_id)
    if endpoint is None or endpoint.disabled_at is not None:
        logger.info("%s dropped: its endpoint is gone or disabled", delivery.event_id)
        return ""
    status = post(here, endpoint, delivery.event_id, delivery.body.encode())
    if status == HTTPStatus.GONE:
        _disable(here, endpoint)
        return ""
    return "" if 200 <= status < 300 else f"status {status}"


def _disable(here: Installation, endpoint: WebhookEndpoint) -> None:
    """Where it is still the one that was posted to: a new URL or secret is not undone by the old one's answer."""
    if here.store.get_webhook(endpoint.tenant, endpoint.id) != endpoint:
        logger.info("%s was changed while its receiver answered 410", endpoint.id)
        return
    here.store.replace_webhook(endpoint.with_(disabled_at=here.clock()))
    logger.warning("%s disabled: its receiver answered 410", endpoint.id)


def post(here: Installation, endpoint: WebhookEndpoint, event_id: str, body: bytes) -> int:
    """Sign and post an event; the answer's status.

    Raises:
        NoAnswer, WebhookRefused, RequestRefused: as `WebhookSender.post`.
        Unavailable, AwsRefused: the installation's secret cannot be read.
    """
    now, master = here.clock(), here.outlets.secret.value()
    known = [secret_of(master, endpoint)]
    if now < endpoint.old_secret_until:
        known.append(secret_of(master, endpoint, version=endpoint.secret_version - 1))
    headers = {"Content-Type": "application/json", "User-Agent": "Spotune-Webhooks/1"}
    return here.outlets.webhooks.post(endpoint.url, headers | signed_headers(tuple(known), event_id, body, now), body)


def _again(delivery: Delivery, why: str, tries: int) -> Seconds:
    """The pause until the next try. After the last one the message is shown at once, to become a dead letter."""
    to = delivery.destination.model_dump_json()
    if tries >= TRIES:
        logger.error("%s given up after %s tries to %s: %s", delivery.event_id, tries, to, why)
        return 0
    pause = round(PAUSES[tries - 1] * (1 + _RANDOM.uniform(0, JITTER)))
    logger.warning("%s not delivered to %s: %s; again in %s s", delivery.event_id, to, why, pause)
    return pause
