"""`/v1/webhook_endpoints`: admins make, change, test and delete their own tenant's endpoints."""

from __future__ import annotations

from typing import Any

import pytest

from spotune.aws.base import NoAnswer
from spotune.contracts.identity import Scope
from spotune.contracts.notifications import EVENT_TYPES
from spotune.service.access.keys import issue_key
from spotune.service.notifications.webhooks import MOST_ENDPOINTS
from tests.in_process import Client, World

ENDPOINTS = "/v1/webhook_endpoints"
WANTED = {"name": "ci", "url": "https://hooks.example.com/x", "event_types": ["fine_tuning.job.succeeded"]}


def made(client: Client, **changes: object) -> dict[str, Any]:
    answer = client.call("POST", ENDPOINTS, {**WANTED, **changes})
    assert answer.status == 200, answer.raw
    return dict(answer.body)


def test_the_secret_is_in_the_answer_to_its_creation_and_nowhere_else(world: World, client: Client) -> None:
    new = made(client)
    assert new["signing_secret"].startswith("whsec_")
    shown = [client.call("GET", ENDPOINTS).body["data"][0], client.call("GET", f"{ENDPOINTS}/{new['id']}").body]
    for one in shown:
        assert one == {name: value for name, value in new.items() if name != "signing_secret"}
    stored = b"".join(world.store._webhooks.values())
    assert new["signing_secret"].removeprefix("whsec_").encode() not in stored


def test_an_endpoint_takes_every_event_where_none_is_named(client: Client) -> None:
    body = {name: value for name, value in WANTED.items() if name != "event_types"}
    assert tuple(client.call("POST", ENDPOINTS, body).body["event_types"]) == EVENT_TYPES
    assert tuple(client.call("GET", "/v1/webhook_event_types").body["data"]) == EVENT_TYPES


@pytest.mark.parametrize(
    ("changes", "code", "param"),
    [
        ({"url": "http:/x"}, "webhook_url_invalid", "url"),
        ({"url": "https://0x7f.1/"}, "webhook_url_invalid", "url"),
        ({"url": "https://metadata.internal/"}, "webhook_address_refused", "url"),
        ({"url": ""}, "invalid_value", "url"),
        ({"name": ""}, "invalid_value", "name"),
        ({"event_types": []}, "invalid_value", "event_types"),
        ({"event_types": ["batch.completed"]}, "invalid_value", "event_types.0"),
        ({"event_types": ["webhook.test"]}, "invalid_value", "event_types.0"),
        ({"colour": "red"}, "unknown_field", "colour"),
    ],
)
def test_a_bad_endpoint_is_refused_by_name(client: Client, changes: dict[str, object], code: str, param: str) -> None:
    answer = client.call("POST", ENDPOINTS, {**WANTED, **changes})
    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, code, param), answer.raw
    assert client.call("GET", ENDPOINTS).body["data"] == []


def test_a_change_is_checked_as_a_creation_is(client: Client) -> None:
    path = f"{ENDPOINTS}/{made(client)['id']}"
    for url, code in (("https://x.internal/", "webhook_address_refused"), ("ftp://x.org/", "webhook_url_invalid")):
        assert client.call("POST", path, {"url": url}).error["code"] == code
    changed = client.call("POST", path, {"url": "https://other.example.com/", "event_types": ["budget.warning"]}).body
    assert (changed["url"], changed["event_types"], changed["name"]) == (
        "https://other.example.com/",
        ["budget.warning"],
        "ci",
    )


def test_a_change_enables_what_its_receiver_had_disabled(world: World, client: Client) -> None:
    new = made(client)
    kept = world.store.get_webhook("acme", new["id"])
    assert kept is not None
    world.store.replace_webhook(kept.with_(disabled_at=world.clock()))
    path = f"{ENDPOINTS}/{new['id']}"
    assert client.call("GET", path).body["spotune"]["disabled_at"] == int(world.clock())
    assert client.call("POST", path, {}).body["spotune"]["disabled_at"] is None


def test_a_tenant_has_so_many_endpoints_and_no_more(client: Client, stranger: Client) -> None:
    ids = [made(client)["id"] for _ in range(MOST_ENDPOINTS)]
    answer = client.call("POST", ENDPOINTS, WANTED)
    assert (answer.status, answer.error["code"]) == (409, "too_many_webhooks")
    assert stranger.call("POST", ENDPOINTS, WANTED).status == 200
    assert client.call("DELETE", f"{ENDPOINTS}/{ids[0]}").body["deleted"]
    assert client.call("POST", ENDPOINTS, WANTED).status == 200


def test_endpoints_are_listed_page_by_page(world: World, client: Client) -> None:
    ids = []
    for _ in range(5):
        world.clock.now += 1
        ids.insert(0, made(client)["id"])
    first = client.call("GET", ENDPOINTS, query="limit=3").body
    rest = client.call("GET", ENDPOINTS, query=f"limit=3&after={first['last_id']}").body
    assert [one["id"] for one in first["data"] + rest["data"]] == ids
    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert client.call("GET", ENDPOINTS, query="after=we_none").error["code"] == "unknown_cursor"


def test_a_rotated_secret_is_another_one(client: Client) -> None:
    new = made(client)
    rotated = client.call("POST", f"{ENDPOINTS}/{new['id']}/rotate_secret", {}).body
    assert rotated["id"] == new["id"]
    assert rotated["signing_secret"] != new["signing_secret"]


def test_a_test_posts_a_sample_at_once_and_tells_the_status(world: World, client: Client) -> None:
    path = f"{ENDPOINTS}/{made(client)['id']}/test"
    world.webhooks.answers += [503]
    answer = client.call("POST", path, {"event_type": "fine_tuning.job.failed"}).body
    assert (answer["object"], answer["status_code"]) == ("webhook_endpoint.test", 503)
    assert client.call("POST", path, {}).body["event_type"] == "webhook.test"
    kinds = [body for _, _, body in world.webhooks.posted]
    assert b'"type":"fine_tuning.job.failed"' in kinds[0]
    assert b'"type":"webhook.test"' in kinds[1]
    world.webhooks.answers.append(NoAnswer("timed out"))
    silent = client.call("POST", path, {})
    assert (silent.status, silent.error["code"]) == (400, "webhook_silent")


@pytest.mark.parametrize(
    "asked", [("GET", ""), ("POST", ""), ("DELETE", ""), ("POST", "/test"), ("POST", "/rotate_secret")]
)
def test_another_tenants_endpoint_is_missing(client: Client, stranger: Client, asked: tuple[str, str]) -> None:
    new = made(client)
    method, more = asked
    answer = stranger.call(method, f"{ENDPOINTS}/{new['id']}{more}", {} if method == "POST" else None)
    assert (answer.status, answer.error["code"]) == (404, "webhook_not_found")
    assert [one["id"] for one in client.call("GET", ENDPOINTS).body["data"]] == [new["id"]]
    assert stranger.call("GET", ENDPOINTS).body["data"] == []


@pytest.mark.parametrize("scopes", [("read",), ("submit",), ("read", "submit")])
@pytest.mark.parametrize(
    "asked", [("GET", ENDPOINTS), ("POST", ENDPOINTS), ("DELETE", f"{ENDPOINTS}/x"), ("POST", f"{ENDPOINTS}/x/test")]
)
def test_webhooks_are_for_admins(world: World, scopes: tuple[Scope, ...], asked: tuple[str, str]) -> None:
    answer = Client(issue_key(world.here, "acme", "scoped", scopes)).call(*asked, WANTED)
    assert (answer.status, answer.error["code"]) == (403, "scope_missing")
