import math
import random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from spotune.contracts.checkpoint import stretched
from spotune.contracts.money import LONGEST_RUNTIME, longest_runtime, worst_case
from spotune.planner import load_catalog
from spotune.planner.interruptions import (
    BILLED_START_SECONDS,
    FREE_START_SECONDS,
    KEPT_DAYS,
    QUEUE_SECONDS,
    RESTART_SECONDS,
    Hazard,
    Save,
    Work,
    expected_course,
    kept_seconds,
    prior_hazard,
    save_interval,
)
from spotune.planner.span import Span
from tests.planner.cases import plan_for

HOURS = st.floats(0.05, 200)
HAZARD = st.floats(0.0001, 0.5)
SPOT_TYPE = "ml.g5.xlarge"


SAVE = Save(write=5.0, waited=2.0)


def run(hours, *, save=SAVE, start=float(BILLED_START_SECONDS)):
    seconds = hours * 3600
    return Work(start=start, training=Span(low=seconds * 0.7, mid=seconds, high=seconds * 1.5), save=save)


def test_the_save_interval_is_young_and_dalys_of_what_training_waits_for_and_a_write():
    assert save_interval(Save(write=20, waited=10), 0.04, kept=3) == round(math.sqrt(2 * 13 * 3600 / 0.04) + 20)


def test_checkpoints_are_from_half_a_minute_to_half_an_hour_apart():
    assert save_interval(Save(write=2, waited=0.1), 5) == 30 + 2
    assert save_interval(Save(write=100, waited=100), 0.001) == 1800 + 100


@given(write=st.floats(1, 5000), share=st.floats(0, 1), hazard=HAZARD, kept=st.floats(0, 500))
def test_the_save_interval_is_one_that_a_disk_as_fast_as_forecast_keeps(write, share, hazard, kept):
    interval = save_interval(Save(write, share * write), hazard, kept)
    assert stretched(interval, write) == pytest.approx(interval, abs=2)


@given(write=st.floats(0.1, 100), waited=st.floats(0.1, 30), hazard=st.floats(0.01, 1), factor=st.floats(0.2, 5))
def test_no_other_interval_makes_a_run_shorter(write, waited, hazard, factor):
    save = Save(write, waited)
    chosen = save_interval(save, hazard)
    assume(max(30, 2 * write) < save.period(chosen) - 1 and save.period(chosen) < 1799)
    best, other = (
        expected_course(run(20, save=save), hazard=hazard, interval=interval).billed.mid
        for interval in (chosen, factor * chosen)
    )
    assert best <= other * 1.002


def test_storage_that_costs_as_much_as_a_minute_of_the_machine_counts_as_a_minute():
    a_gigabyte = 0.023 / 30  # dollars a day
    assert kept_seconds(1e9, 60 * KEPT_DAYS * a_gigabyte * 1e6) == pytest.approx(60)


def test_billed_time_is_the_one_worked_out_by_hand():
    work = Work(start=600, training=Span(low=3600, mid=7200, high=7200), save=Save(write=20, waited=5.8))
    course = expected_course(work, hazard=0.12, interval=600)
    billed = (600 + 7200 * 1.01) / (1 - 0.12 / 3600 * (600 + 580 / 2 + 20))
    assert course.billed.mid * 3600 == pytest.approx(billed)
    assert course.interruptions == pytest.approx(billed / 3600 * 0.12)
    assert course.billed.low * 3600 == pytest.approx(600 * 0.7 + 3600 * 1.01)


def test_a_disk_too_slow_for_the_interval_has_write_follow_write():
    save = Save(write=60, waited=3)
    assert save.period(30) == 60
    assert save.lost(30, training=3600) == 90


def test_a_run_shorter_than_the_interval_has_no_more_to_lose_than_itself():
    assert SAVE.lost(1800, training=120) == 60


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


def test_each_interruption_takes_back_half_a_period_and_a_write_on_average():
    course = expected_course(run(20), hazard=0.3, interval=600)
    assert course.work_lost * 3600 == pytest.approx(course.interruptions * (595 / 2 + 5))


@given(hours=HOURS, hazard=HAZARD)
def test_the_95_percent_wall_time_is_met_with_95_percent(hours, hazard):
    course = expected_course(run(hours), hazard=hazard, interval=600)
    assert course.on_time_probability(course.wall.high) == pytest.approx(0.95, abs=1e-3)
    assert course.on_time_probability(course.wall.mid) == 0.5


@given(hours=HOURS, hazard=HAZARD, deadline=st.floats(0, 500), later=st.floats(0, 500))
def test_a_later_deadline_is_never_less_likely_to_be_met(hours, hazard, deadline, later):
    course = expected_course(run(hours), hazard=hazard, interval=600)
    early, late = (course.on_time_probability(hour) for hour in (deadline, deadline + later))
    assert 0 <= early <= late <= 1


@given(hours=HOURS, hazard=HAZARD, more=st.floats(1.01, 3), deadline=st.floats(0.1, 500))
def test_a_deadline_beyond_the_mid_value_is_not_likelier_with_a_higher_hazard(hours, hazard, more, deadline):
    calm = expected_course(run(hours), hazard=hazard, interval=600)
    rough = expected_course(run(hours), hazard=hazard * more, interval=600)
    if deadline >= rough.wall.mid:
        assert rough.on_time_probability(deadline) <= calm.on_time_probability(deadline) + 0.02


def test_a_run_that_never_ends_is_never_on_time():
    assert expected_course(run(1, start=7200), hazard=1.0, interval=600).on_time_probability(1e6) == 0


@pytest.mark.parametrize("hours", [2, 24])
@pytest.mark.parametrize("hazard", [0.0005, 0.12, 0.4])
def test_the_probability_agrees_with_a_simulation_of_the_same_run(hours, hazard):
    work, interval = run(hours), save_interval(SAVE, hazard)
    course = expected_course(work, hazard=hazard, interval=interval)
    dice = random.Random(7)
    walls = sorted(simulated_wall(dice, work, hazard, interval) for _ in range(2000))
    for share in (0.5, 0.75, 0.9, 0.95, 0.99):
        assert course.on_time_probability(walls[int(share * 2000)]) == pytest.approx(share, abs=0.07)


def simulated_wall(dice, work, hazard, interval):
    """Hours of one run: each interruption loses what was done since a save and pays the start again."""
    start = work.start * skewed(dice, 0.7, 1, 1.5)
    left = skewed(dice, *work.training) * (1 + work.save.waited / work.save.period(interval))
    waited = skewed(dice, *QUEUE_SECONDS) + FREE_START_SECONDS
    while (up := dice.expovariate(hazard / 3600)) < start + left:
        done = max(up - start, 0)
        left -= done - min(done, work.save.write + dice.uniform(0, work.save.period(interval)))
        waited += up + FREE_START_SECONDS + RESTART_SECONDS
    return (waited + start + left) / 3600


def skewed(dice, low, mid, high):
    deviations = dice.gauss(0, 1)
    return mid * ((high / mid) if deviations > 0 else (mid / low)) ** (deviations / 1.645)


@given(prior=st.floats(0.005, 0.2), interruptions=st.integers(0, 50), hours=st.floats(0.5, 5000))
def test_what_is_known_of_a_hazard_lies_between_the_prior_and_what_was_seen(prior, interruptions, hours):
    known = prior_hazard(prior).seen(interruptions, hours).rate
    low, high = sorted((prior, interruptions / hours))
    assert low * (1 - 1e-9) <= known <= high * (1 + 1e-9)


def test_a_prior_weighs_two_interruptions():
    assert prior_hazard(0.04) == Hazard(interruptions=2, hours=50)
    assert prior_hazard(0.04).seen(2, 0).rate == pytest.approx(0.08)


def test_history_may_come_in_parts():
    assert prior_hazard(0.04).seen(1, 10).seen(2, 30) == prior_hazard(0.04).seen(3, 40)


@given(hours=HOURS, hazard=HAZARD, probability=st.floats(0.01, 0.999))
def test_the_hours_at_a_probability_are_those_with_that_probability(hours, hazard, probability):
    course = expected_course(run(hours), hazard=hazard, interval=600)
    if math.isfinite(course.wall.high):
        assert course.on_time_probability(course.hours_at(probability)) == pytest.approx(probability, abs=1e-6)
        assert course.hours_at(0.95) == pytest.approx(course.wall.high, rel=1e-3)


@given(price=st.integers(1, 200_000_000), cap=st.integers(0, 10**12), count=st.integers(1, 8))
def test_the_longest_runtime_is_the_longest_whose_worst_case_the_cap_covers(price, cap, count):
    seconds = longest_runtime(price, count, cap)
    if seconds >= 0:
        assert worst_case(price, count, seconds) <= cap
    if seconds < LONGEST_RUNTIME:
        assert worst_case(price, count, seconds + 1) > cap


def test_the_worst_case_pays_for_the_grace_of_a_stop():
    assert worst_case(1_515_000, 1, 3600 - 180) == 1_515_000


@given(
    cheap=st.integers(100_000, 900_000),
    dearer=st.integers(0, 900_000),
    calm=st.integers(0, 4),
    rougher=st.integers(0, 4),
)
@settings(max_examples=25)
def test_a_plan_never_costs_less_for_a_higher_price_or_a_higher_hazard(cheap, dearer, calm, rougher):
    cost = spot_cost(cheap, calm)
    assert spot_cost(cheap + dearer, calm) >= cost
    assert spot_cost(cheap, min(calm + rougher, 4)) >= cost * (1 - 1e-4)


def spot_cost(price, bucket):
    market = load_catalog().market()
    quote = market.quotes[SPOT_TYPE].with_(spot=price, interruption_bucket=bucket)
    market = market.with_(quotes={**market.quotes, SPOT_TYPE: quote})
    constraints = {"market": "spot", "instance_types": [SPOT_TYPE]}
    return plan_for(market=market, constraints=constraints).plan.chosen.cost.mid
