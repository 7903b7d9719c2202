"""Signatures of the Standard Webhooks scheme, which OpenAI uses: its SDK's `client.webhooks.unwrap` verifies them.

An endpoint's secret is derived from the installation's one secret, so that none is kept in the table.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

from spotune.contracts.base import Timestamp
from spotune.contracts.notifications import WebhookEndpoint

PREFIX = "whsec_"


def secret_of(master: bytes, endpoint: WebhookEndpoint, *, version: int | None = None) -> str:
    """What the receiver verifies with: `whsec_` and 32 bytes in base64.

    Args:
        master: the installation's secret.
        endpoint: whose.
        version: another one than the present.
    """
    number = endpoint.secret_version if version is None else version
    seed = "\0".join(("spotune webhook", endpoint.tenant, endpoint.id, str(number))).encode()
    return PREFIX + base64.b64encode(hmac.digest(master, seed, hashlib.sha256)).decode()


def signed_headers(secrets: tuple[str, ...], event_id: str, body: bytes, at: Timestamp) -> dict[str, str]:
    """The three headers of one try.

    Args:
        secrets: one signature for each; a receiver takes any that it can verify.
        event_id: the same on every try.
        body: what is posted, byte by byte.
        at: the time of this try. Receivers refuse old ones, so that nobody can play a delivery back.
    """
    moment = str(int(at))
    signatures = [_signature(secret, f"{event_id}.{moment}.".encode() + body) for secret in secrets]
    return {"webhook-id": event_id, "webhook-timestamp": moment, "webhook-signature": " ".join(signatures)}


def _signature(secret: str, content: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    return "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
