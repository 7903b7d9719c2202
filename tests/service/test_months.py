"""A tenant's limit is by month: what begins in a month counts in it, and who waits for money gets the next one's."""

from __future__ import annotations

import pytest

from spotune.contracts.errors import Conflict
from spotune.service.installation import install
from spotune.service.jobs.control import pause, resume
from spotune.service.jobs.observation import observe
from spotune.service.jobs.submit import submit
from spotune.service.reconcile import reconcile
from tests.factories import NOW
from tests.in_process import World
from tests.in_process import world as make_world
from tests.service.test_once import request_of

MONTH, NEXT = "2026-09", "2026-10"
A_MONTH = 31 * 86_400


@pytest.fixture
def world() -> World:
    made = make_world(monthly_limit_usd=30, default_budget_usd=20)
    install(made.here)
    return made


def spend(world: World, job_id: str, **changes: object) -> None:
    """The job's first attempt ends after so much that the month's rest buys no other one."""
    job = world.store.find_job(job_id)
    assert job is not None
    billable = int(0.9 * job.attempts[0].max_runtime)
    ended = {"status": "Stopped", "secondary_status": "Stopped", "billable_seconds": billable, **changes}
    world.training_jobs.observe(f"{job_id}-1", **ended)
    observe(world.here, f"{job_id}-1")


def reserved_and_billed(world: World, month: str) -> tuple[int, int]:
    ledger = world.store.ledger("acme", month, limit=0)
    return ledger.reserved, ledger.billed


def test_an_attempt_of_the_next_month_counts_there_and_the_one_before_where_it_began(world: World) -> None:
    job = submit(world.here, "acme", request_of(world))
    world.run_queue()
    pause(world.here, "acme", job.id)
    world.clock.now += A_MONTH
    spend(world, job.id)
    reserved, billed = reserved_and_billed(world, MONTH)
    assert (reserved, billed > 0) == (0, True)
    assert reserved_and_billed(world, NEXT) == (0, 0)
    resumed = resume(world.here, "acme", job.id)
    assert resumed.reserved > 0
    assert reserved_and_billed(world, MONTH) == (0, billed)
    assert reserved_and_billed(world, NEXT) == (resumed.reserved, 0)


def test_a_paused_job_without_funds_goes_on_when_the_month_is_over(world: World) -> None:
    first = submit(world.here, "acme", request_of(world))
    world.run_queue()
    pause(world.here, "acme", first.id)
    world.training_jobs.observe(f"{first.id}-1", status="Stopped", secondary_status="Stopped")
    observe(world.here, f"{first.id}-1")
    other = submit(world.here, "acme", request_of(world))
    world.run_queue()
    spend(world, other.id)
    with pytest.raises(Conflict, match="resume it next month"):
        resume(world.here, "acme", first.id)
    world.clock.now += A_MONTH
    assert resume(world.here, "acme", first.id).state == "queued"


def test_counts_of_two_months_are_those_of_their_attempts(world: World) -> None:
    job = submit(world.here, "acme", request_of(world))
    world.run_queue()
    pause(world.here, "acme", job.id)
    world.clock.now = NOW + A_MONTH
    spend(world, job.id)
    resume(world.here, "acme", job.id)
    world.run_queue()
    world.clock.now += 3600
    assert reconcile(world.here).counts_corrected == 0
