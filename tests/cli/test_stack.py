"""`status`, `down` and `reset` where no stack runs."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Run


def test_where_nothing_is_up_down_ends_nothing_and_reset_empties_the_home_once_told_so(run: Run, home: Path) -> None:
    kept = home / "emulator" / "table"
    kept.mkdir(parents=True)
    asked = run("status", "--json")
    assert (asked.code, asked.json["running"]) == (5, False)
    assert run("down", "--json").json == {"ended": False}
    refused = run("reset", "--json")
    assert (refused.code, refused.error["code"], kept.exists()) == (2, "not_confirmed", True)
    assert run("reset", "--yes", "--json").json == {"reset": True}
    assert not kept.exists()
