"""The function behind IAM's lock: first keys, and principals."""

from __future__ import annotations

from typing import Any

import pytest

from handlers import keys
from spotune.contracts.identity import clear_key, key_hash
from tests.in_process import Client, World

ROLE = "arn:aws:iam::123456789012:role/nightly"


def test_a_tenant_s_first_key_may_do_all_of_it(world: World) -> None:
    made = keys.handler({"tenant": "acme", "name": "first", "requests_per_minute": 5000}, None)
    client = Client(made["key"])
    (listed,) = client.call("GET", "/v1/keys").body["data"]
    assert listed["scopes"] == ["read", "submit", "admin"]
    assert listed["requests_per_minute"] == 5000


def test_a_key_can_be_made_for_less(world: World) -> None:
    made = keys.handler({"tenant": "acme", "scopes": ["read"]}, None)
    assert Client(made["key"]).call("GET", "/v1/keys").status == 403


def test_a_key_that_is_ordered_by_its_hash_is_one_key_however_often_it_is_ordered(world: World) -> None:
    clear = clear_key()
    order = {"tenant": "acme", "sha256": key_hash(clear)}
    answers = [keys.handler(order, None) for _ in range(2)]
    ((kept, _),) = world.store.list_keys("acme")
    assert answers == [{"id": kept.id}] * 2
    assert Client(clear).call("GET", "/v1/keys").status == 200


def test_keys_that_nobody_has_seen_open_nothing_whether_they_came_to_be_or_not(world: World) -> None:
    unseen, never, clear = clear_key(), clear_key(), clear_key()
    keys.handler({"tenant": "acme", "sha256": key_hash(unseen)}, None)
    instead = [key_hash(unseen), key_hash(never)]
    keys.handler({"tenant": "acme", "sha256": key_hash(clear), "instead_of": instead}, None)
    keys.handler({"tenant": "acme", "sha256": key_hash(clear), "instead_of": instead}, None)
    keys.handler({"tenant": "acme", "sha256": key_hash(unseen)}, None)  # it was on its way for long
    assert [Client(key).call("GET", "/v1/keys").status for key in (unseen, never, clear)] == [401, 401, 200]


@pytest.mark.parametrize("order", [{}, {"principal": ROLE}])
def test_what_it_makes_can_have_a_monthly_limit(world: World, order: dict[str, Any]) -> None:
    keys.handler({"tenant": "acme", "scopes": ["submit"], "monthly_limit_usd": 5, **order}, None)
    ((made, _),) = world.store.list_keys("acme")
    assert made.monthly_limit == 5_000_000


@pytest.mark.parametrize(
    ("order", "code", "param"),
    [
        ({}, "missing_field", "tenant"),
        ({"tenant": "Acme Inc"}, "tenant_name_invalid", "tenant"),
        ({"tenant": "acme/../globex"}, "tenant_name_invalid", "tenant"),
        ({"tenant": "acme", "scopes": ["root"]}, "invalid_value", "scopes.0"),
        ({"tenant": "acme", "scopes": []}, "invalid_value", "scopes"),
        ({"tenant": "acme", "limit": 5}, "unknown_field", "limit"),
        ({"tenant": "acme", "sha256": "no hash"}, "invalid_value", "sha256"),
        ({"tenant": "acme", "name": "\u202e\x07 "}, "key_name_invalid", "name"),
        ({"tenant": "acme", "name": "x" * 65}, "key_name_invalid", "name"),
        ({"tenant": "acme", "requests_per_minute": 0}, "invalid_value", "requests_per_minute"),
        ({"tenant": "acme", "monthly_limit_usd": 5}, "limit_of_admin_key", "monthly_limit_usd"),
        (
            {"tenant": "acme", "principal": ROLE, "scopes": ["admin"], "monthly_limit_usd": 5},
            "limit_of_admin_key",
            "monthly_limit_usd",
        ),
        ({"tenant": "acme", "principal": ROLE}, "missing_field", "scopes"),
        ({"tenant": "Acme", "principal": ROLE, "scopes": ["read"]}, "tenant_name_invalid", "tenant"),
        ({"tenant": "acme", "principal": "ada", "scopes": ["read"]}, "principal_invalid", "principal"),
    ],
)
def test_what_it_cannot_make_it_refuses_by_name(world: World, order: dict[str, Any], code: str, param: str) -> None:
    error = keys.handler(order, None)["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert world.store.list_keys("acme") == ()
