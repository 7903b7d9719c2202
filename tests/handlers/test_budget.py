"""A tenant's money through the API."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spotune.contracts.base import MICRO
from spotune.service.installation import install
from tests.handlers.test_accuracy import run_to_the_end
from tests.handlers.test_jobs import submitted
from tests.in_process import Client, World
from tests.tiny_model import chat_rows


def test_a_running_job_is_reserved_and_an_ended_one_billed(world: World, client: Client) -> None:
    job = submitted(client, client.upload(chat_rows(40)))
    before = client.call("GET", "/v1/budget").body
    assert before["reserved"] == job["spotune"]["money"]["reserved"]
    assert before["left"] == before["limit"] - before["reserved"]
    assert (before["billed"], before["reached"], before["warning"]) == (0, 0, "")
    ended = run_to_the_end(world, client)
    after = client.call("GET", "/v1/budget").body
    assert isinstance(ended["spotune"], dict)
    assert after["billed"] == ended["spotune"]["money"]["billed"] == ended["spotune"]["receipt"]["billed"]


def test_half_of_the_limit_is_warned_of(world: World, client: Client) -> None:
    run_to_the_end(world, client)
    billed = client.call("GET", "/v1/budget").body["billed"]
    install(replace(world.here, settings=replace(world.here.settings, monthly_limit=billed * 2)))
    seen = client.call("GET", "/v1/budget").body
    assert seen["reached"] == 50
    assert "50 % or more" in seen["warning"]


def test_another_tenant_has_its_own_money(world: World, client: Client, stranger: Client) -> None:
    run_to_the_end(world, client)
    assert stranger.call("GET", "/v1/budget").body["billed"] == 0


def test_another_month_is_empty(client: Client) -> None:
    seen = client.call("GET", "/v1/budget", query="month=2025-01").body
    assert (seen["month"], seen["billed"], seen["limit"]) == ("2025-01", 0, 1000 * MICRO)


@pytest.mark.parametrize("month", ["2025-13", "202501", "x", "2025-01-01"])
def test_what_is_no_month_is_refused(client: Client, month: str) -> None:
    answer = client.call("GET", "/v1/budget", query=f"month={month}")
    assert (answer.status, answer.error["code"]) == (400, "month_invalid")


def test_money_is_not_shown_without_a_key() -> None:
    assert Client(None).call("GET", "/v1/budget").status == 401
