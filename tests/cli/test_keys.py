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
