"""API keys: their scopes, their revocation, their tenants."""

from __future__ import annotations

import hashlib

import pytest

from spotune.contracts.errors import Unavailable
from spotune.contracts.identity import Scope
from spotune.service.access.keys import issue_key
from spotune.store.memory import MemoryStore
from tests.handlers.test_jobs import JOBS, body_for
from tests.in_process import Client, World, answer_to, http_event
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
        raise Unavailable("the job table lets nobody in.", code="store_closed")

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


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer  ",
        "Basic YWRtaW46YWRtaW4=",
        "Bearer sk-spotune-" + "é" * 43,
        "Bearer sk-spotune-" + "\u0661" * 43,
        "Bearer sk-spotune-\ud800",
        "Bearer sk-spotune-\x00",
        "Bearer " + "sk-spotune-" * 100_000,
        "Bearer sk-spotune-" + "a" * 5_000_000,
        "\u00a0Bearer x",
    ],
    ids=range(12),
)
def test_a_strange_authorization_is_no_key_and_no_fault_of_ours(world: World, authorization: str) -> None:
    event = http_event("GET", JOBS, "", {"authorization": authorization}, b"")
    assert answer_to(event).status == 401


def test_several_authorizations_are_none(world: World, client: Client) -> None:
    """API Gateway joins them with commas; a direct invocation can spell the name twice."""
    good = f"Bearer {client.key}"
    for headers in (
        {"authorization": f"{good},{good}"},
        {"authorization": f"{good}, Bearer x"},
        {"authorization": f"Bearer x,{good}"},
        {"authorization": good, "Authorization": good},
        {"authorization": good, "Authorization": "Bearer x"},
    ):
        assert answer_to(http_event("GET", JOBS, "", headers, b"")).status == 401
    assert (
        answer_to(http_event("GET", JOBS, "", {"AUTHORIZATION": good.replace("Bearer", "bearer")}, b"")).status == 200
    )


@pytest.mark.parametrize("headers", [None, [], "x"])
def test_an_event_without_headers_is_nobody_s(world: World, headers: object) -> None:
    event = http_event("GET", JOBS, "", {}, b"") | {"headers": headers}
    assert answer_to(event).status == 401


def test_what_the_store_finds_is_compared_with_what_was_asked_for(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    (found,) = (key for key, _ in world.store.list_keys("acme"))
    monkeypatch.setattr(MemoryStore, "find_key", lambda self, sha256: found)
    assert Client("sk-spotune-" + "x" * 43).call("GET", JOBS).status == 401
    assert client.call("GET", JOBS).status == 200


def test_a_name_is_kept_as_a_terminal_can_print_it(client: Client) -> None:
    made = client.call("POST", KEYS, {"name": "  ci\n\x1b[31m \u202e run\u00e9  "}).body
    assert made["name"] == "ci [31m runé"
    refused = client.call("POST", KEYS, {"name": "\x1b\u202e \n"})
    assert (refused.status, refused.error["code"]) == (400, "key_name_invalid")


def test_a_tenant_has_so_many_open_keys_and_no_more(
    world: World, client: Client, stranger: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spotune.service.access.keys.MOST_OPEN_KEYS", 3)
    made = [client.call("POST", KEYS, {"name": "ci"}) for _ in range(3)]
    assert [answer.status for answer in made] == [200, 200, 409]
    assert made[-1].error["code"] == "too_many_keys"
    assert stranger.call("POST", KEYS, {"name": "ci"}).status == 200
    client.call("DELETE", f"{KEYS}/{made[0].body['id']}")
    assert client.call("POST", KEYS, {"name": "ci"}).status == 200


def test_keys_that_are_made_and_revoked_in_a_circle_come_to_an_end(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spotune.service.access.keys.MOST_KEYS", 5)
    statuses = []
    for _ in range(6):
        answer = client.call("POST", KEYS, {"name": "ci"})
        statuses.append(answer.status)
        if answer.status == 200:
            client.call("DELETE", f"{KEYS}/{answer.body['id']}")
    assert statuses == [200] * 4 + [409] * 2


def test_no_log_and_no_answer_ever_holds_a_key_but_the_one_that_made_it(
    world: World,
    client: Client,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level("DEBUG")
    made = client.call("POST", KEYS, {"name": "canary", "scopes": ["read", "submit"]}).body
    canary = Client(made["key"])
    file_id = canary.upload(chat_rows(30))
    asked = [
        canary.call("GET", JOBS),
        canary.call("POST", JOBS, body_for(file_id)),
        canary.call("POST", JOBS, raw=b"{"),
        canary.call("GET", KEYS),
        client.call("GET", KEYS),
    ]
    monkeypatch.setattr(MemoryStore, "list_jobs", broken)
    monkeypatch.setattr(MemoryStore, "note_use", closed)
    world.clock.now += 7200
    asked.append(canary.call("GET", JOBS))
    assert asked[-1].status == 500
    client.call("DELETE", f"{KEYS}/{made['id']}")
    asked.append(canary.call("GET", JOBS))
    assert asked[-1].status == 401
    printed = capfd.readouterr()
    told = "".join([printed.out, printed.err, caplog.text, *(answer.raw for answer in asked)])
    assert "unforeseen error" in told, "the log was seen"
    assert "was not noted" in told
    assert made["key"] not in told
    assert made["key"].removeprefix("sk-spotune-") not in told
    assert hashlib.sha256(made["key"].encode()).hexdigest() not in told


def broken(*_: object, **__: object) -> None:
    raise RuntimeError("no")


def closed(*_: object, **__: object) -> None:
    raise Unavailable("the job table lets nobody in.", code="store_closed")
