"""The audit log: every call that may change something is in it, with who, what, when and how it ended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from handlers import keys
from handlers.api import scope_of
from spotune.service.access.keys import id_of, issue_key
from spotune.store.dynamo import DynamoStore
from tests.handlers.test_every_route import NEEDS, NOBODYS, path_of
from tests.handlers.test_jobs import JOBS, body_for
from tests.in_process import Client, Context, World, http_event
from tests.tiny_model import chat_rows

LOG = "/v1/audit_log"
CHANGES = sorted(route for route in NEEDS if route[0] != "GET" and route[1] != "/v1/fine_tuning/plans")


def log(client: Client) -> list[dict[str, Any]]:
    return list(client.call("GET", LOG, query="limit=100").body["data"])


def test_a_call_is_kept_with_who_did_what_from_where_and_how_it_ended(world: World, client: Client) -> None:
    file_id = client.upload(chat_rows(30))
    world.clock.now += 1
    job_id = client.call("POST", JOBS, body_for(file_id)).body["id"]
    world.clock.now += 1
    client.call("POST", f"{JOBS}/{job_id}/cancel")
    assert client.key is not None
    cancelled, created, uploaded = log(client)
    assert cancelled == {
        "id": cancelled["id"],
        "object": "audit_record",
        "created_at": int(world.clock.now),
        "actor": id_of(client.key),
        "actor_name": "test",
        "principal": None,
        "address": "127.0.0.1",
        "action": f"POST {JOBS}/{job_id}/cancel",
        "target": job_id,
        "status": 200,
        "code": None,
        "request_id": "request-1",
    }
    assert (created["action"], created["target"]) == (f"POST {JOBS}", job_id)
    assert (uploaded["action"], uploaded["target"]) == ("POST /v1/files", file_id)


@pytest.mark.parametrize("route", CHANGES, ids=" ".join)
def test_every_route_that_changes_something_is_on_record_and_no_other_is(
    world: World, client: Client, route: tuple[str, str]
) -> None:
    method, path = route[0], path_of(route[1], NOBODYS)
    status = client.call(method, path, {}).status
    (kept,) = log(client)
    assert (kept["action"], kept["status"]) == (f"{method} {path}", status)
    assert kept["code"] or status < 400


@pytest.mark.parametrize("route", sorted(set(NEEDS) - set(CHANGES)), ids=" ".join)
def test_looking_leaves_no_record(client: Client, route: tuple[str, str]) -> None:
    client.call(route[0], path_of(route[1], NOBODYS), {} if route[0] == "POST" else None)
    assert log(client) == []


def test_what_a_key_may_not_do_is_on_record_too(world: World, client: Client) -> None:
    reader = Client(issue_key(world.here, "acme", "reader", ("read",)))
    reader.call("DELETE", "/v1/files/file-x")
    (kept,) = log(client)
    assert (kept["actor_name"], kept["status"], kept["code"]) == ("reader", 403, "scope_missing")


def test_nobody_and_too_many_requests_write_no_record(world: World, client: Client) -> None:
    limited = Client(issue_key(world.here, "acme", "limited", requests_per_minute=1))
    limited.call("DELETE", "/v1/files/file-x")
    assert limited.call("DELETE", "/v1/files/file-x").status == 429
    assert Client("sk-spotune-" + "A" * 43).call("DELETE", "/v1/files/file-x").status == 401
    assert len(log(client)) == 1


def test_no_word_of_a_body_is_in_it(client: Client) -> None:
    canary = "canary-of-a-body"
    client.call("POST", JOBS, {**body_for("file-x"), "suffix": canary, "metadata": {canary: canary}})
    client.call("POST", "/v1/keys", {"name": canary})
    client.call("POST", "/v1/webhook_endpoints", {"name": canary, "url": f"https://example.com/{canary}"})
    assert len(log(client)) == 3
    assert canary not in client.call("GET", LOG).raw
    assert "sk-spotune-" not in client.call("GET", LOG).raw


@pytest.fixture
def closed() -> Iterator[DynamoStore]:
    """A store whose table is not there."""
    with mock_aws():
        yield DynamoStore("no-such-table", boto3.client("dynamodb", region_name="us-east-1"))


def test_what_cannot_be_put_on_record_is_not_done(
    world: World, client: Client, closed: DynamoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.store, "begin_audit", closed.begin_audit)
    refused = client.call("POST", "/v1/keys", {"name": "more"})
    assert (refused.status, refused.error["code"]) == (503, "store_closed")
    assert [key.name for key, _ in world.store.list_keys("acme")] == ["test"]
    assert keys.handler({"tenant": "acme", "name": "more"}, Context())["error"]["code"] == "store_closed"
    assert len(world.store.list_keys("acme")) == 1


def test_a_call_that_was_killed_on_the_way_is_on_record_without_an_end(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """As when Lambda's time is up."""

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "put_key", kill)
        with pytest.raises(Killed):
            client.call("POST", "/v1/keys", {"name": "more"})
    (kept,) = log(client)
    assert (kept["action"], kept["status"], kept["target"]) == ("POST /v1/keys", None, None)


def test_what_was_done_is_answered_even_where_its_end_cannot_be_written(
    world: World,
    client: Client,
    closed: DynamoStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(world.store, "end_audit", closed.end_audit)
    made = client.call("POST", "/v1/keys", {"name": "more"})
    assert (made.status, len(world.store.list_keys("acme"))) == (200, 2)
    assert "key" in keys.handler({"tenant": "acme", "name": "third"}, Context())
    assert [one.name for one in world.metrics.sent].count("AuditEndsLost") == 2
    loud = [line.getMessage() for line in caplog.records if line.levelname == "ERROR"]
    assert sum("is in this log alone" in message for message in loud) == 2
    assert {(one["action"], one["status"]) for one in log(client)} == {
        ("POST /v1/keys", None),
        ("issue key third", None),
    }


def test_the_operator_s_keys_and_principals_are_in_the_tenant_s_log(world: World, client: Client) -> None:
    made = keys.handler({"tenant": "acme", "name": "first"}, Context())["key"]
    world.clock.now += 1
    role = "arn:aws:iam::123456789012:role/nightly"
    mapped = keys.handler({"tenant": "acme", "principal": role, "scopes": ["read"]}, Context())
    world.clock.now += 1
    keys.handler({"tenant": "acme", "principal": role}, Context())
    refused, second, first = log(client)
    assert {one["actor"] for one in (refused, second, first)} == {"operator"}
    assert (first["action"], first["target"], first["status"]) == ("issue key first", id_of(made), 200)
    assert (second["action"], second["target"]) == (f"map principal {role}", mapped["id"])
    assert (refused["status"], refused["code"]) == (400, "missing_field")
    assert made not in str(first)


def test_a_path_of_any_length_and_any_letters_is_kept_as_a_terminal_can_show_it(client: Client) -> None:
    client.call("DELETE", "/v1/models/\x1b[2J" + "x" * 5000)
    (kept,) = log(client)
    assert kept["action"].startswith("DELETE /v1/models/?[2Jxxx")
    assert len(kept["action"]) == 300


def test_a_route_that_changes_something_never_counts_as_looking() -> None:
    for method, path in CHANGES:
        assert scope_of(http_event(method, path_of(path, NOBODYS), "", {}, b"")) != "read"
