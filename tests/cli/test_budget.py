"""`budget` against the real handlers."""

from __future__ import annotations

from tests.cli.conftest import Run, Service


def test_an_untouched_month_has_all_of_its_limit(service: Service, run: Run) -> None:
    ran = run("budget")
    assert ran.code == 0
    assert "$1,000.00" in ran.out
    assert run("budget", "--json").json["left"] == 1_000_000_000


def test_a_wrong_month_is_refused_in_words(service: Service, run: Run) -> None:
    ran = run("budget", "--month", "May")
    assert ran.code == 2
    assert "is no month" in ran.err
