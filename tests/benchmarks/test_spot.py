from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.spot_baselines import POLICIES, ladder, on_demand, optimum
from benchmarks.spot_traces import Case, World, hazard, read_traces, simulate

TRACE = st.lists(st.tuples(st.booleans(), st.integers(1, 12)), min_size=1, max_size=12).map(
    lambda runs: [up for up, slots in runs for _ in range(slots)]
)
SMALL = World(restart=1, spot_price=0.35)


@given(trace=TRACE, work=st.integers(1, 60), slack=st.integers(0, 60), interval=st.integers(0, 6))
def test_the_ladder_is_never_late_where_on_demand_is_on_time(trace, work, slack, interval):
    case = Case(work, work + slack, World(save_interval=interval))
    if simulate(case, trace, 0, on_demand(case)).slots <= case.deadline:
        assert simulate(case, trace, 0, ladder(case)).slots <= case.deadline


@given(trace=TRACE, work=st.integers(1, 40), slack=st.integers(2, 60))
@settings(max_examples=50)
def test_nothing_that_is_on_time_costs_less_than_the_optimum(trace, work, slack):
    case = Case(work, work + slack)
    trace = trace + [False] * case.deadline
    (best,) = optimum(case, trace, [0])
    for policy in POLICIES.values():
        outcome = simulate(case, trace, 0, policy(case))
        assert outcome.slots > case.deadline or outcome.cost >= best - 1e-9


@given(trace=st.lists(st.booleans(), min_size=6, max_size=6), work=st.integers(1, 5))
@settings(max_examples=60)
def test_the_optimum_is_the_best_of_all_sequences_of_moves(trace, work):
    case = Case(work, 6, SMALL)
    costs = [play(case, trace, moves) for moves in product(("nowhere", "spot", "on_demand"), repeat=6)]
    assert optimum(case, trace, [0]) == [pytest.approx(min(costs))]


def play(case, trace, moves):
    """The cost of making these moves; infinite where one cannot be made, or they do not finish the job."""
    move = iter(moves)

    def policy(now):
        place = next(move, None)
        if place is None or (place == "spot" and not now.spot_offered):
            raise Impossible
        return place

    try:
        return simulate(case, [*trace, False], 0, policy).cost
    except Impossible:
        return float("inf")


class Impossible(Exception):
    pass


def test_a_start_is_billed_and_makes_no_progress():
    case = Case(work=3, deadline=20)
    outcome = simulate(case, [True] * 20, 0, ladder(case))
    assert (outcome.slots, outcome.cost) == (5, pytest.approx(5 * 0.35))


def test_an_interruption_takes_back_what_was_not_saved():
    case = Case(work=6, deadline=40, world=World(save_interval=4))
    trace = [True] * 8 + [False] + [True] * 20
    spot_only = POLICIES["spot only"](case)
    assert simulate(case, trace, 0, spot_only).slots == 8
    trace = [True] * 7 + [False] + [True] * 20
    assert simulate(case, trace, 0, spot_only).slots == 7 + 1 + 2 + (6 - 4)


def test_the_traces_come_with_the_repository():
    traces = read_traces()
    assert len(traces) == 7
    assert all(0.1 < sum(trace) / len(trace) < 0.8 for trace in traces.values())
    assert all(0.1 < hazard(trace) < 2 for trace in traces.values())
