import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotune.contracts.history import Actual, Corrections, FinishedRun, Stay, is_card
from spotune.contracts.plan import Applied
from spotune.planner.corrections import DOUBT, Corrector, learn
from spotune.planner.span import Span
from spotune.planner.throughput import Speed
from tests.planner.cases import NOW, plan_for

TYPE = "ml.g5.xlarge"
ON_DEMAND = 1_408_400
BARE = Speed(training=Span(650.0, 1000.0, 1350.0), forward=3000.0)
ONE_TYPE = {"instance_types": [TYPE], "market": "spot"}


def forecast(corrections=None):
    return plan_for(
        constraints=ONE_TYPE, adapter={"type": "lora"}, corrections=corrections or Corrections()
    ).plan.chosen


def finished(chosen, *, speed=1.0, memory=1.0, start=1.0, price=1.0, device="NVIDIA A10G", completed=True, **stay):
    """A run of this candidate that was off by these factors."""
    billable = min(round(10_000 * chosen.price * price / ON_DEMAND), 10_000)
    values = {
        "instance_type": chosen.instance_type,
        "instance_count": 1,
        "market": "spot",
        "training_seconds": 10_000,
        "billable_seconds": billable,
        "on_demand_price": ON_DEMAND,
        "interruptions": 0,
        **stay,
    }
    applied = chosen.corrections
    context = 700 * 1024**2
    bare_memory = (chosen.memory.mid - context) / applied.memory
    return FinishedRun(
        id="ftjob-1",
        tenant="acme",
        created_at=NOW,
        finished_at=NOW + 1,
        model="m",
        completed=completed,
        forecast=chosen,
        actual=Actual(
            cost=1,
            billed_hours=1,
            wall_hours=1,
            interruptions=0,
            work_lost_hours=0,
            tokens_per_second=chosen.tokens_per_second.mid / applied.speed * speed,
            peak_memory_bytes=round(bare_memory * memory),
            start_seconds=chosen.start_seconds / applied.start * start,
            device=device,
        ),
        stays=(Stay(**values),),
    )


CHOSEN = forecast()


def factor(corrections, quantity):
    """The card's for speed and memory."""
    return next(one.factor for one in corrections.factors if one.quantity == quantity)


def test_a_plan_after_slow_runs_is_slower_dearer_and_says_by_how_much():
    before = forecast()
    learnt = learn([finished(before, speed=0.5)] * 9)
    after = forecast(learnt)
    share = 9 / (9 + DOUBT)
    expected = 0.5 ** (share + (1 - share) * share)
    assert after.corrections.speed == pytest.approx(expected)
    assert after.tokens_per_second.mid == pytest.approx(before.tokens_per_second.mid * expected)
    assert after.cost.mid > before.cost.mid


def test_a_method_that_never_ran_on_a_card_takes_the_cards_factor():
    corrector = Corrector(learn([finished(CHOSEN, speed=0.5)] * 9))
    assert CHOSEN.method == "lora"
    assert corrector.factor("speed", CHOSEN.gpu, "full") == corrector.factor("speed", CHOSEN.gpu) < 1
    assert corrector.factor("speed", "H100", "lora") == 1.0


def test_corrections_settle_at_what_runs_show_however_often_they_are_taken():
    """A forecast that already holds a factor is not corrected by it again."""
    learnt = Corrections()
    for _ in range(5):
        chosen = forecast(learnt)
        learnt = learn([finished(chosen, speed=0.5, start=2.0)] * 50)
    assert factor(learnt, "speed") == pytest.approx(0.5, rel=0.06)
    assert factor(learnt, "start") == pytest.approx(2.0, rel=0.06)


def test_memory_is_corrected_upwards_alone():
    chosen = forecast()
    assert factor(learn([finished(chosen, memory=0.5)] * 20), "memory") == 1.0
    learnt = learn([finished(chosen, memory=1.5)] * 20)
    assert 1.3 < factor(learnt, "memory") < 1.5
    assert forecast(learnt).memory.p95 > chosen.memory.p95
    assert sum(forecast(learnt).memory.parts.values()) == forecast(learnt).memory.mid


def test_a_cpu_that_stands_in_for_a_card_teaches_nothing():
    learnt = learn([finished(forecast(), speed=0.01, device="AMD EPYC", interruptions=5)] * 20)
    assert learnt == Corrections()


def test_a_run_on_another_type_than_planned_teaches_no_speed():
    learnt = learn([finished(forecast(), speed=0.5, instance_type="ml.g6.xlarge")] * 5)
    assert learnt.factors == ()
    assert [(one.instance_type, one.interruptions) for one in learnt.spot] == [("ml.g6.xlarge", 0)]


def test_a_run_that_failed_teaches_interruptions_and_price_but_no_speed():
    learnt = learn([finished(forecast(), device="", completed=False, interruptions=3)] * 4)
    assert {one.quantity for one in learnt.factors} == {"spot_price"}
    (seen,) = learnt.spot
    assert seen.interruptions == 12
    assert seen.hours == pytest.approx(4 * 10_000 / 3600)


def test_interruptions_that_were_seen_move_the_hazard_and_the_cost():
    before = forecast()
    rough = forecast(learn([finished(before, interruptions=4)] * 10))
    calm = forecast(learn([finished(before, interruptions=0)] * 300))
    assert calm.interruptions < before.interruptions < rough.interruptions
    assert calm.cost.mid <= before.cost.mid < rough.cost.mid


def test_a_spot_price_that_was_billed_higher_is_planned_with_up_to_on_demand():
    chosen = forecast()
    assert forecast(learn([finished(chosen, price=1.5)] * 50)).price == pytest.approx(chosen.price * 1.5, rel=0.05)
    dear = forecast(learn([finished(chosen, price=3.0)] * 50))
    assert dear.price <= ON_DEMAND


def test_one_absurd_run_does_not_rule():
    learnt = learn([finished(forecast(), speed=1000.0)])
    assert factor(learnt, "speed") == pytest.approx(3.0 ** (1 / (1 + DOUBT)))


@given(ratios=st.lists(st.floats(0.4, 2.5), min_size=1, max_size=30))
def test_a_factor_lies_between_one_and_the_runs(ratios):
    found = factor(learn([finished(CHOSEN, speed=ratio) for ratio in ratios]), "speed")
    assert min(1.0, *ratios) * (1 - 1e-9) <= found <= max(1.0, *ratios) * (1 + 1e-9)


@given(ratios=st.lists(st.floats(0.4, 2.5), min_size=1, max_size=30))
def test_an_intervals_ends_stay_around_its_mid(ratios):
    corrector = Corrector(learn([finished(CHOSEN, speed=ratio) for ratio in ratios]))
    low, mid, high = corrector.speed(CHOSEN.gpu, CHOSEN.method, BARE).training
    assert 0 < low < mid < high
    assert math.isclose(mid, 1000 * corrector.factor("speed", CHOSEN.gpu, CHOSEN.method))


def test_agreeing_runs_narrow_the_interval():
    corrector = Corrector(learn([finished(forecast(), speed=1.0)] * 30))
    narrow = corrector.speed(CHOSEN.gpu, CHOSEN.method, BARE).training
    assert narrow.high - narrow.low < (BARE.training.high - BARE.training.low) / 2


@pytest.mark.parametrize(
    ("gpu", "device", "same"),
    [
        ("A10G", "NVIDIA A10G", True),
        ("T4", "Tesla T4", True),
        ("L4", "NVIDIA L4", True),
        ("L4", "NVIDIA L40S", False),
        ("A100-40", "NVIDIA A100-SXM4-80GB", False),
        ("A100-80", "NVIDIA A100-SXM4-80GB", True),
        ("H100", "NVIDIA H100 80GB HBM3", True),
        ("RTXPRO6000", "NVIDIA RTX PRO 6000 Blackwell Server Edition", True),
        ("T4", "AMD EPYC 7R13", False),
        ("T4", "", False),
    ],
)
def test_a_drivers_name_is_held_against_the_planned_card(gpu, device, same):
    assert is_card(gpu, device) is same


def test_a_forecast_says_which_factors_it_holds():
    assert forecast().corrections == Applied()
