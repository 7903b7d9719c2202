"""`keys` against the real handlers."""

from __future__ import annotations

import pytest

from spotune.cli.client import Api
from spotune.cli.connection import Connection
from spotune.contracts.api import KeyRequest
from spotune.contracts.errors import TooManyRequests
from spotune.service.access.keys import issue_key
from tests.cli.conftest import Run, Service


def test_a_key_is_made_used_listed_and_revoked(service: Service, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    made = run("keys", "create", "ci", "--scope", "read", "--json").json
    assert made["scopes"] == ["read"]
    monkeypatch.setenv("SPOTUNE_API_KEY", made["key"])
    assert run("list").code == 0
    refused = run("keys", "list")
    assert refused.code == 4
    assert "this needs admin" in refused.err
    monkeypatch.setenv("SPOTUNE_API_KEY", service.key)
    assert made["id"] in run("keys", "list").out
    assert "opens nothing any more" in run("keys", "revoke", made["id"]).out
    monkeypatch.setenv("SPOTUNE_API_KEY", made["key"])
    assert run("list").code == 4


def test_an_unknown_scope_is_refused_before_anything_is_sent(service: Service, run: Run) -> None:
    ran = run("keys", "create", "ci", "--scope", "root")
    assert ran.code == 2
    assert "read, submit, admin" in ran.err
    assert service.calls == []


def test_a_key_with_a_monthly_limit_shows_it_and_its_budget(service: Service, run: Run) -> None:
    made = run("keys", "create", "ci", "--monthly-limit", "25", "--json").json
    assert "$25.00" in run("keys", "list").out
    seen = run("budget", "--key", made["id"], "--json").json
    assert (seen["key"], seen["limit"], seen["left"]) == (made["id"], 25_000_000, 25_000_000)
    refused = run("keys", "create", "ci", "--monthly-limit", "-1")
    assert refused.code == 2
    assert "monthly_limit_usd" in refused.err


def test_a_key_s_limit_is_set_and_shown(service: Service, run: Run) -> None:
    made = run("keys", "create", "ci", "--requests-per-minute", "7", "--json").json
    assert made["requests_per_minute"] == 7
    rows = {line.split()[0]: line for line in run("keys", "list").out.splitlines() if line.startswith("key-")}
    assert " 7 " in rows[made["id"]]
    assert "never" in rows[made["id"]]
    assert [line for line in rows.values() if " 600 " in line], "the installation's, where a key has none"


def test_a_limit_that_is_none_is_refused_before_anything_is_sent(service: Service, run: Run) -> None:
    ran = run("keys", "create", "ci", "--requests-per-minute", "0", "--json")
    assert (ran.code, ran.error["param"]) == (2, "requests_per_minute")
    assert service.calls == []


def test_the_cli_waits_for_the_next_minute_and_then_has_its_answer(service: Service) -> None:
    clock = service.world.clock
    clock.now = clock.now // 60 * 60 + 15
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        clock.now += seconds

    key = issue_key(service.world.here, "acme", "slow", requests_per_minute=1)
    with Api(Connection(service.url, key), sleep=sleep) as api:
        api.create_key(KeyRequest(name="first"))
        made = api.create_key(KeyRequest(name="second"))
    assert waited == [45]
    assert made.name == "second"
    assert [method for method, _ in service.calls] == ["POST"] * 3


def test_the_cli_does_not_wait_for_ever(service: Service) -> None:
    waited: list[float] = []
    key = issue_key(service.world.here, "acme", "slow", requests_per_minute=1)
    with Api(Connection(service.url, key), sleep=waited.append) as api:
        api.keys()
        with pytest.raises(TooManyRequests) as refused:
            api.keys()
    assert refused.value.code == "rate_limit_exceeded"
    assert len(waited) == 2


def test_a_gateway_s_own_throttling_is_waited_for_too(service: Service) -> None:
    answers = iter([429])
    service.refuse = lambda method, path: next(answers, None)
    waited: list[float] = []
    with Api(Connection(service.url, service.key), sleep=waited.append) as api:
        assert len(api.keys().data) == 1
    assert waited == [1]
