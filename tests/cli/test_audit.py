"""`audit` against the real handlers."""

from __future__ import annotations

import pytest

from spotune.service.access.keys import issue_key
from tests.cli.conftest import Run, Service


def test_the_audit_log_is_shown_newest_first_page_by_page(service: Service, run: Run) -> None:
    made = run("keys", "create", "ci", "--json").json
    run("keys", "revoke", made["id"])
    service.world.clock.now += 1
    run("keys", "revoke", "key-x")
    shown = run("audit", "--limit", 1)
    assert "404 key_not_found" in shown.out
    older = run("audit", *shown.out.split()[-2:])
    assert [line.split()[-1] for line in older.out.splitlines()[1:]] == ["200", "200"]
    assert f"DELETE /v1/keys/{made['id']}" in older.out
    assert made["key"] not in older.out
    assert len(run("audit", "--json").json["data"]) == 3


def test_it_is_for_admins(service: Service, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = issue_key(service.world.here, "acme", "reader", ("read",))
    monkeypatch.setenv("SPOTUNE_API_KEY", reader)
    monkeypatch.setenv("SPOTUNE_API_URL", service.url)
    assert run("audit").code == 4
