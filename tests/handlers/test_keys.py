"""API keys: their scopes, their revocation, their tenants."""

from __future__ import annotations

import pytest

from spotune.aws.base import AwsRefused
from spotune.contracts.identity import Scope
from spotune.service.keys import issue_key
from spotune.store.memory import MemoryStore
from tests.handlers.test_jobs import JOBS, body_for
from tests.in_process import Client, World
from tests.tiny_model import chat_rows

KEYS = "/v1/keys"


def client_with(world: World, *scopes: Scope, tenant: str = "acme") -> Client:
    return Client(issue_key(world.here, tenant, "scoped", scopes))


def test_a_reader_looks_and_changes_nothing(world: World, client: Client) -> None:
    file_id = client.upload(chat_rows(30))
    reader = client_with(world, "read")
    assert reader.call("GET", JOBS).status == 200
    assert reader.call("POST", "/v1/fine_tuning/plans", body_for(file_id)).status == 200
    refused = reader.call("POST", JOBS, body_for(file_id))
    assert (refused.status, refused.error["code"]) == (403, "scope_missing")
    assert "this needs submit" in refused.error["message"]
    assert client.call("GET", JOBS).body["data"] == []


@pytest.mark.parametrize("scopes", [("read",), ("submit",), ("read", "submit")])
@pytest.mark.parametrize("asked", [("GET", KEYS), ("POST", KEYS), ("DELETE", f"{KEYS}/key-x")])
def test_keys_are_for_admins(world: World, scopes: tuple[Scope, ...], asked: tuple[str, str]) -> None:
    answer = client_with(world, *scopes).call(*asked, {"name": "more", "scopes": ["admin"]})
    assert answer.status == 403


def test_a_key_opens_until_it_is_revoked(client: Client) -> None:
    made = client.call("POST", KEYS, {"name": "ci", "scopes": ["read"]}).body
    other = Client(made["key"])
    assert other.call("GET", JOBS).status == 200
    listed = client.call("GET", KEYS).body["data"]
    assert made["id"] in [key["id"] for key in listed]
    assert all("key" not in key for key in listed)
    revoked = client.call("DELETE", f"{KEYS}/{made['id']}").body
    assert revoked["revoked_at"] is not None
    assert other.call("GET", JOBS).status == 401
    again = client.call("DELETE", f"{KEYS}/{made['id']}").body
    assert again["revoked_at"] == revoked["revoked_at"]


def test_the_last_use_is_shown(world: World, client: Client) -> None:
    made = client.call("POST", KEYS, {"name": "ci"}).body
    assert made["last_used_at"] is None
    Client(made["key"]).call("GET", JOBS)
    key = next(key for key in client.call("GET", KEYS).body["data"] if key["id"] == made["id"])
    assert key["last_used_at"] == int(world.clock())


def test_a_use_that_cannot_be_noted_fails_no_request(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = client.call("POST", KEYS, {"name": "ci"}).body

    def refuse(*_: object) -> None:
        raise AwsRefused("AccessDenied", "no")

    monkeypatch.setattr(MemoryStore, "note_use", refuse)
    assert Client(made["key"]).call("GET", JOBS).status == 200


def test_another_tenants_keys_are_neither_listed_nor_revoked(client: Client, stranger: Client) -> None:
    made = client.call("POST", KEYS, {"name": "ci"}).body
    assert made["id"] not in [key["id"] for key in stranger.call("GET", KEYS).body["data"]]
    assert stranger.call("DELETE", f"{KEYS}/{made['id']}").status == 404
    assert Client(made["key"]).call("GET", JOBS).status == 200


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": "x", "scopes": []}, {"name": "x", "scopes": ["root"]}])
def test_a_bad_request_makes_no_key(client: Client, body: dict[str, object]) -> None:
    before = len(client.call("GET", KEYS).body["data"])
    assert client.call("POST", KEYS, body).status == 400
    assert len(client.call("GET", KEYS).body["data"]) == before


def test_jobs_of_a_limited_key_stop_at_its_limit_and_others_go_on(world: World, client: Client) -> None:
    file_id = client.upload(chat_rows(30))
    made = client.call("POST", KEYS, {"name": "ci", "scopes": ["read", "submit"], "monthly_limit_usd": 1.5}).body
    assert made["monthly_limit"] == 1_500_000
    limited = Client(made["key"])
    body = body_for(file_id, constraints={"budget_usd": 1})
    assert limited.call("POST", JOBS, body).status == 200
    refused = limited.call("POST", JOBS, body)
    assert (refused.status, refused.error["code"]) == (400, "monthly_limit_reached")
    assert f"limit of key {made['id']}" in refused.error["message"]
    assert client.call("POST", JOBS, body).status == 200
    seen = limited.call("GET", "/v1/budget", query=f"key={made['id']}").body
    assert (seen["key"], seen["limit"]) == (made["id"], 1_500_000)
    assert 0 < seen["reserved"] <= 1_000_000
    whole = client.call("GET", "/v1/budget").body
    assert whole["key"] is None
    assert whole["reserved"] > seen["reserved"]


def test_a_key_that_makes_keys_cannot_be_limited(client: Client) -> None:
    refused = client.call("POST", KEYS, {"name": "x", "scopes": ["admin"], "monthly_limit_usd": 5})
    assert (refused.status, refused.error["code"]) == (400, "limit_of_admin_key")


def test_the_budget_of_a_key_without_a_limit_or_of_another_tenant_is_not_shown(
    client: Client, stranger: Client
) -> None:
    made = client.call("POST", KEYS, {"name": "x", "scopes": ["read"]}).body
    assert client.call("GET", "/v1/budget", query=f"key={made['id']}").error["code"] == "key_without_limit"
    assert stranger.call("GET", "/v1/budget", query=f"key={made['id']}").status == 404
