"""What a run may go on from: one rule for the container and the service."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotune.contracts.checkpoint import (
    MOST_STRETCH,
    RESUME_FIELDS,
    WRITES_APART,
    Identity,
    Resumption,
    RunState,
    differences,
    newest_whole,
    stretched,
)
from spotune.contracts.training import ChampionConfig, TrainingConfig
from spotune.lifecycle.diagnosis import STALLED_INTERVALS
from tests.factories import config

DATA = "1" * 64
WRITTEN = Identity.of(config(), DATA)


def test_every_field_of_the_config_is_either_what_is_learnt_or_may_change() -> None:
    # Of the model's files, the weights alone decide; the container compares them by a fingerprint of its own.
    free = {"job_id", "retry_of", "model_sha256", "hardware", "checkpoint", "limits", "evaluation", "outputs"}
    free |= {"trackers"}
    assert set(TrainingConfig.model_fields) == RESUME_FIELDS | free
    changed = config(
        job_id="ftjob-other",
        model_sha256="1" * 64,
        hardware=config().hardware.with_(micro_batch_size=1),
        limits=config().limits.with_(max_runtime_seconds=1),
        checkpoint=config().checkpoint.with_(interval_seconds=1),
    )
    assert differences(WRITTEN, Identity.of(changed, DATA)) == ()
    assert Identity.of(changed, DATA).sha256 == WRITTEN.sha256


def test_each_field_that_differs_is_named_with_both_values() -> None:
    other = config(seed=8, optimization=config().optimization.with_(epochs=5), adapter=None)
    found = differences(WRITTEN, Identity.of(other, "2" * 64))
    assert "optimization.epochs: 2 -> 5" in found
    assert "seed: 7 -> 8" in found
    assert f"data_sha256: {DATA!r} -> {'2' * 64!r}" in found
    assert any(line.startswith("adapter: {") and line.endswith("-> None") for line in found)
    assert len(found) == 4


def test_a_checkpoint_of_an_earlier_version_that_also_named_its_job_still_serves() -> None:
    earlier = WRITTEN.with_(config={**WRITTEN.config, "job_id": "ftjob-abc"})
    assert differences(earlier, WRITTEN) == ()


def test_a_json_round_trip_changes_no_identity() -> None:
    assert differences(Identity.model_validate_json(WRITTEN.model_dump_json()), WRITTEN) == ()


@given(st.dictionaries(st.integers(1, 50), st.none() | st.integers(1, 50), max_size=8))
def test_the_newest_is_chosen_whose_best_is_there_else_the_newest(best_steps: dict[int, int | None]) -> None:
    states = [RunState(step=step, best_step=best) for step, best in sorted(best_steps.items(), reverse=True)]
    chosen = newest_whole(iter(states), best_steps.__contains__)
    whole = [state for state in states if state.best_step is None or state.best_step in best_steps]
    assert chosen == next(iter(whole or states), None)


def test_what_is_done_is_a_share_that_is_zero_where_the_total_is_unknown() -> None:
    made = Resumption(job_id="ftjob-abc", message="", step=30, total_steps=40)
    assert (made.used, made.done) == (True, 0.75)
    assert made.with_(total_steps=0).done == 0
    assert made.with_(step=90).done == 1
    assert not made.with_(step=0).used


def test_a_champion_counts_where_training_goes_on_from_it_and_not_where_it_is_compared_with() -> None:
    def identity(champion: ChampionConfig | None) -> str:
        return Identity.of(config(champion=champion), "0" * 64).sha256

    compared, begun = (ChampionConfig(name="ft:a", start=start) for start in (False, True))
    assert identity(compared) == identity(None)
    assert identity(begun) != identity(None)
    assert identity(begun) != identity(begun.with_(name="ft:b"))
    assert identity(begun) == identity(begun.with_(replayed_rows=9)), "the rows themselves are the data"


INTERVALS = st.floats(0, 3600)
WRITES = st.floats(0, 1e5)


@given(interval=INTERVALS, write=WRITES)
def test_a_disk_shortens_no_interval_and_stretches_none_beyond_the_most(interval: float, write: float) -> None:
    assert interval <= stretched(interval, write) <= MOST_STRETCH * interval


@given(interval=INTERVALS, share=st.floats(0, 1))
def test_a_disk_that_writes_within_a_third_of_the_interval_stretches_nothing(interval: float, share: float) -> None:
    assert stretched(interval, share * interval / (WRITES_APART + 1e-9)) == interval


@given(interval=st.floats(1, 3600), share=st.floats(1 / WRITES_APART, MOST_STRETCH / WRITES_APART))
def test_a_slower_disk_has_checkpoints_as_far_apart_as_three_writes(interval: float, share: float) -> None:
    assert stretched(interval, share * interval) == pytest.approx(3 * share * interval)


@given(interval=INTERVALS, write=WRITES, slower=st.floats(1, 100))
def test_a_slower_disk_never_has_a_shorter_interval(interval: float, write: float, slower: float) -> None:
    assert stretched(interval, write) <= stretched(interval, slower * write)


def test_an_interval_that_a_slow_disk_stretched_is_not_taken_for_a_checkpoint_that_never_arrives() -> None:
    assert stretched(60, 1e6) < STALLED_INTERVALS * 60
