"""`keys` against the real handlers."""

from __future__ import annotations

import pytest

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
