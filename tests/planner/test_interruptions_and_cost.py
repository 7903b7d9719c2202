import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotune.contracts.base import Interval
from spotune.contracts.money import LONGEST_RUNTIME, longest_runtime, worst_case
from spotune.planner.interruptions import BILLED_START_SECONDS, Work, expected_course, save_interval

HOURS = st.floats(0.05, 200)
HAZARD = st.floats(0.0001, 0.5)


def run(hours, *, save=5.0, start=float(BILLED_START_SECONDS)):
    seconds = hours * 3600
    return Work(start=start, training=Interval(low=seconds * 0.7, mid=seconds, high=seconds * 1.5), save=save)


def test_the_save_interval_is_young_and_dalys():
    assert save_interval(10, 0.04) == round(math.sqrt(2 * 10 * 3600 / 0.04))


def test_the_save_interval_stays_within_two_and_thirty_minutes():
    assert save_interval(0.1, 0.5) == 120
    assert save_interval(1000, 0.001) == 1800


def test_billed_time_is_the_one_worked_out_by_hand():
    work = Work(start=600, training=Interval(low=3600, mid=7200, high=7200), save=6)
    course = expected_course(work, hazard=0.12, interval=600)
    billed = (600 + 7200 * 1.01) / (1 - 0.12 / 3600 * (600 + 300))
    assert course.billed.mid * 3600 == pytest.approx(billed)
    assert course.interruptions == pytest.approx(billed / 3600 * 0.12)
    assert course.billed.low * 3600 == pytest.approx(600 * 0.7 + 3600 * 1.01)


def test_a_run_that_restarts_eat_up_never_ends():
    assert math.isinf(expected_course(run(1, start=7200), hazard=1.0, interval=600).billed.mid)


@given(hours=HOURS, hazard=HAZARD, more=st.floats(1.01, 3))
def test_billed_and_wall_time_grow_with_the_hazard(hours, hazard, more):
    work = run(hours)
    calm = expected_course(work, hazard=hazard, interval=save_interval(work.save, hazard))
    rough = expected_course(work, hazard=hazard * more, interval=save_interval(work.save, hazard * more))
    assert rough.billed.mid >= calm.billed.mid * (1 - 1e-4)
    assert rough.wall.mid >= calm.wall.mid * (1 - 1e-4)


@given(hours=HOURS, hazard=HAZARD)
def test_wall_time_is_never_below_billed_time(hours, hazard):
    course = expected_course(run(hours), hazard=hazard, interval=600)
    assert course.wall.low >= course.billed.low
    assert course.wall.mid >= course.billed.mid
    assert course.wall.high >= course.billed.high


@given(price=st.integers(1, 200_000_000), cap=st.integers(0, 10**12), count=st.integers(1, 8))
def test_the_longest_runtime_is_the_longest_whose_worst_case_the_cap_covers(price, cap, count):
    seconds = longest_runtime(price, count, cap)
    if seconds >= 0:
        assert worst_case(price, count, seconds) <= cap
    if seconds < LONGEST_RUNTIME:
        assert worst_case(price, count, seconds + 1) > cap


def test_the_worst_case_pays_for_the_grace_of_a_stop():
    assert worst_case(1_515_000, 1, 3600 - 120) == 1_515_000
