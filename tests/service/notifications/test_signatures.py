"""Signatures that the public OpenAI SDK verifies unchanged."""

from __future__ import annotations

import base64
import time

import openai
import pytest

from spotune.contracts.notifications import OutwardEvent
from spotune.service.notifications.signatures import secret_of, signed_headers
from tests.store.test_notices import endpoint

MASTER = b"the installation's secret"
BODY = OutwardEvent(
    id="evt_1", created_at=1_790_000_000, type="fine_tuning.job.succeeded", data={"id": "ftjob-abc", "tenant": "äcme"}
)


@pytest.fixture
def sdk() -> openai.OpenAI:
    return openai.OpenAI(api_key="none", base_url="http://127.0.0.1:9/v1")


def test_the_public_sdk_verifies_and_reads_a_delivery(sdk: openai.OpenAI) -> None:
    secret, body = secret_of(MASTER, endpoint()), BODY.model_dump_json().encode()
    event = sdk.webhooks.unwrap(body, signed_headers((secret,), "evt_1", body, time.time()), secret=secret)
    assert type(event).__name__ == "FineTuningJobSucceededWebhookEvent"
    assert (event.id, event.type, event.data.id) == ("evt_1", "fine_tuning.job.succeeded", "ftjob-abc")


def test_a_changed_body_id_time_or_secret_is_refused_by_the_sdk(sdk: openai.OpenAI) -> None:
    secret, body = secret_of(MASTER, endpoint()), BODY.model_dump_json().encode()
    headers = signed_headers((secret,), "evt_1", body, time.time())
    other = secret_of(MASTER, endpoint("we_2"))
    wrong = [
        (body + b" ", headers, secret),
        (body, headers | {"webhook-id": "evt_2"}, secret),
        (body, headers | {"webhook-timestamp": str(int(time.time()) - 1)}, secret),
        (body, headers, other),
    ]
    for changed in wrong:
        with pytest.raises(openai.InvalidWebhookSignatureError):
            sdk.webhooks.unwrap(changed[0], changed[1], secret=changed[2])


def test_a_delivery_that_is_played_back_later_is_too_old(sdk: openai.OpenAI) -> None:
    secret, body = secret_of(MASTER, endpoint()), b"{}"
    old = signed_headers((secret,), "evt_1", body, time.time() - 3600)
    with pytest.raises(openai.InvalidWebhookSignatureError, match="too old"):
        sdk.webhooks.unwrap(body, old, secret=secret)


def test_a_delivery_signed_twice_satisfies_either_secret(sdk: openai.OpenAI) -> None:
    changed = endpoint(secret_version=2)
    new, old, body = secret_of(MASTER, changed), secret_of(MASTER, changed, version=1), BODY.model_dump_json().encode()
    headers = signed_headers((new, old), "evt_1", body, time.time())
    for secret in (new, old):
        assert sdk.webhooks.unwrap(body, headers, secret=secret).id == "evt_1"


def test_every_endpoint_and_version_has_a_secret_of_its_own_that_is_always_the_same() -> None:
    all_of_them = [
        secret_of(MASTER, endpoint()),
        secret_of(MASTER, endpoint("we_2")),
        secret_of(MASTER, endpoint(tenant="globex")),
        secret_of(MASTER, endpoint(secret_version=2)),
        secret_of(b"another installation's", endpoint()),
    ]
    assert len(set(all_of_them)) == len(all_of_them)
    assert all_of_them[0] == secret_of(MASTER, endpoint(name="renamed", url="https://elsewhere.example.com/"))
    assert all(len(base64.b64decode(secret.removeprefix("whsec_"))) == 32 for secret in all_of_them)
