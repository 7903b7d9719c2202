"""Whose turn it is."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from spotune.contracts.job import ActiveJob
from spotune.lifecycle.turns import REFUSED_RESTS, calls, in_turn, lines_of
from tests.factories import NOW

LINE = "jobs"
QUOTA = "quota of x (spot)"


def standing(number: int, tenant: str, since: float, line: str = LINE, **changes: object) -> ActiveJob:
    values = {"id": f"ftjob-{number}", "tenant": tenant, "created_at": NOW, "state": "queued", "line": line}
    return ActiveJob.model_validate({**values, "in_line_since": NOW + since, **changes})


def running(number: int, tenant: str, places: int = 1) -> ActiveJob:
    return standing(number, tenant, 0, line="", state="running", held={LINE: places})


crowds = st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1e6), st.booleans()), max_size=30).map(
    lambda rows: [
        running(n, tenant) if runs else standing(n, tenant, since) for n, (tenant, since, runs) in enumerate(rows)
    ]
)


def test_tenants_take_turns_and_who_holds_least_goes_first() -> None:
    active = [
        running(0, "large", 3),
        *[standing(number, "large", number) for number in range(1, 4)],
        *[standing(number, "small", 100 + number) for number in range(4, 7)],
    ]
    assert [job.id[-1] for job in in_turn(LINE, active)] == ["4", "5", "6", "1", "2", "3"]
    equals = [standing(number, "ab"[number % 2], number) for number in range(6)]
    assert [job.tenant for job in in_turn(LINE, equals)] == list("ababab")


@given(crowds)
def test_everybody_is_called_once_and_first_come_is_first_served_within_a_tenant(active: list[ActiveJob]) -> None:
    order = list(in_turn(LINE, active))
    assert sorted(job.id for job in order) == sorted(job.id for job in active if job.line)
    for tenant in "abc":
        since = [job.in_line_since for job in order if job.tenant == tenant]
        assert since == sorted(since)  # type: ignore[type-var]


@given(crowds)
def test_nobody_is_called_while_a_tenant_that_holds_fewer_places_waits(active: list[ActiveJob]) -> None:
    held = Counter(dict.fromkeys("abc", 0))
    for job in active:
        held[job.tenant] += job.held.get(LINE, 0)
    waiting = Counter(job.tenant for job in active if job.line)
    for job in in_turn(LINE, active):
        assert held[job.tenant] == min(held[tenant] for tenant in waiting if waiting[tenant])
        held[job.tenant] += 1
        waiting[job.tenant] -= 1


def test_as_many_are_called_as_find_room_until_sagemaker_refuses_one() -> None:
    fresh = [standing(1, "a", 0, line=QUOTA)]
    assert calls(QUOTA, fresh, NOW) is None
    refused = [*fresh, standing(2, "b", 0, line=QUOTA, refused_at=NOW)]
    assert calls(QUOTA, refused, NOW + REFUSED_RESTS - 1) == 0
    assert calls(QUOTA, refused, NOW + REFUSED_RESTS) == 1
    assert calls(LINE, [standing(1, "a", 0, refused_at=NOW)], NOW) is None


def test_quotas_are_called_first_so_that_nobody_called_from_elsewhere_takes_them() -> None:
    active = [standing(1, "a", 0, line=QUOTA), standing(2, "a", 0), standing(3, "a", 0, line="jobs of a")]
    assert lines_of(active) == (QUOTA, "jobs", "jobs of a")
