from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotune.contracts.training import OptimizationConfig
from tests.training_container.building import CONFIG, sequences_of
from training_container.corpus import DataOrder
from training_container.schedule import evaluation_steps, learning_rate

pytestmark = pytest.mark.torch

CONFIGURED = OptimizationConfig.model_validate(CONFIG["optimization"])


@given(total=st.integers(1, 500), warmup=st.floats(0, 0.9))
def test_the_rate_climbs_to_the_configured_one_and_falls_towards_zero(total: int, warmup: float) -> None:
    config = CONFIGURED.with_(warmup_ratio=warmup)
    rates = [learning_rate(step, total, config) for step in range(total)]
    peak = rates.index(max(rates))
    assert all(0 < rate <= config.learning_rate for rate in rates)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


def test_without_warm_up_training_begins_at_the_full_rate() -> None:
    assert learning_rate(0, 10, CONFIGURED.with_(warmup_ratio=0.0)) == CONFIGURED.learning_rate


@given(sequences=st.integers(1, 50), batch=st.integers(1, 8), epochs=st.integers(1, 4), per_epoch=st.integers(1, 5))
def test_the_end_of_every_epoch_is_evaluated(sequences: int, batch: int, epochs: int, per_epoch: int) -> None:
    order = DataOrder(sequences_of([()] * sequences), global_batch=batch, epochs=epochs, seed=0, grouped=False)
    steps = evaluation_steps(order, per_epoch)
    assert {order.steps_per_epoch * epoch for epoch in range(1, epochs + 1)} <= steps
    assert all(0 < step <= order.total_steps for step in steps)
    assert len(steps) <= epochs * per_epoch
