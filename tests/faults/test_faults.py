"""A slice of `make faults`, with seeds that nobody has seen, and of `make faults-mutants`."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from secrets import randbelow

import pytest

from tests.faults.mutants import MUTANTS, caught_by
from tests.faults.retraining import retrain
from tests.faults.simulation import simulate

SEEDS = 6
ARRIVALS = 60


def test_no_fault_breaks_an_invariant() -> None:
    first = randbelow(10**9)
    print(f"seeds {first} to {first + SEEDS - 1}")
    for seed in range(first, first + SEEDS):
        result = simulate(seed)
        assert not result.violations, f"make faults SEED={seed}: {result.violations[:5]}"
        assert result.jobs > 10
        assert result.faults.total() > 100


def test_a_seed_gives_the_same_history_again() -> None:
    one, other = simulate(7, jobs=8), simulate(7, jobs=8)
    assert one == other
    assert one.faults


def test_no_fault_makes_a_rule_count_wrongly_or_exceed_its_limits() -> None:
    seed = randbelow(10**9)
    print(f"seed {seed}")
    result = retrain(seed, arrivals=ARRIVALS)
    assert not result.violations, f"seed {seed} with {ARRIVALS} arrivals: {result.violations[:5]}"
    assert result.arrivals >= ARRIVALS - 10
    assert result.faults.total() > 300


def test_a_seed_gives_the_same_history_of_new_data_again() -> None:
    one, other = retrain(7, arrivals=12), retrain(7, arrivals=12)
    assert one == other
    assert one.jobs


@pytest.mark.parametrize(
    "bug", ["settle an attempt twice", "climb without waiting for the stop", "drop the outbox", "count copies"]
)
def test_a_deliberate_bug_is_caught(bug: str) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as apart:
        assert apart.submit(caught_by, bug, range(3)).result() is not None


@pytest.mark.parametrize("name", MUTANTS)
def test_every_deliberate_bug_can_still_be_put_in(name: str) -> None:
    """Its place may have moved since; a process of its own is spoilt."""
    process = get_context("fork").Process(target=MUTANTS[name])
    process.start()
    process.join()
    assert process.exitcode == 0
