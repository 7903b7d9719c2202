"""The disk that a run needs."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotune.contracts.errors import PlanRefused
from spotune.contracts.plan import Plan
from spotune.contracts.training import OutputConfig
from spotune.planner import disk_gb, load_catalog, volume_gb
from tests import factories
from tests.planner.cases import DOLLAR, LARGE, SMALL, dataset, plan_for

WEIGHTS_AND_MOMENTS = 3 * 4
"""Bytes of a trained parameter in a checkpoint: 32 bits each for itself and AdamW's two moments."""


@given(st.integers(1, 8), st.integers(10**6, 10**11))
def test_every_checkpoint_that_is_ever_on_the_disk_is_counted(keep: int, parameters: int) -> None:
    """That there are no more of them is in tests/training_container/test_checkpoints.py; what a start brings back is in
    tests/service/test_pruning.py."""
    config = factories.config(method="full", adapter=None)
    config = config.with_(checkpoint=config.checkpoint.with_(keep=keep))
    checkpoints = config.checkpoint.at_most * parameters * WEIGHTS_AND_MOMENTS
    model_and_published = parameters * (2 + 4)
    assert disk_gb(config, parameters, 0) >= math.ceil((checkpoints + model_and_published) / 10**9)


def test_disk_is_asked_for_by_what_is_trained_and_published_and_by_the_files() -> None:
    lora, full = factories.config(), factories.config(method="full", adapter=None)
    eight = 8 * 10**9
    assert disk_gb(lora, eight, 0) < 95, "with the image it fits onto the disk of an ml.g4dn.xlarge"
    assert disk_gb(full, eight, 0) > 8 * (2 + 5 * 12), (
        "the newest two, the best, one on its way, and the one being written"
    )
    assert disk_gb(lora, eight, 10 * 10**9) == disk_gb(lora, eight, 0) + 40
    assert disk_gb(lora, eight, 0, 16 * 10**9) == disk_gb(lora, eight, 0) + 16, "a champion of whole weights"
    whole = lora.with_(outputs=OutputConfig(merged=True, gguf="f32"))
    assert disk_gb(whole, eight, 0) == disk_gb(lora, eight, 0) + 8 * (2 + 2 + 4)


EIGHT = 8.03e9
"""Parameters of LARGE."""


def planned(model: str, *, gigabytes: float = 0.001, **request: object) -> Plan:
    training = dataset().with_(bytes=int(gigabytes * 10**9))
    return plan_for(model, training=training, cap=10**6 * DOLLAR, **request).plan


def without_disk(plan: Plan) -> dict[str, str]:
    return {one.instance_type: one.reason for one in plan.rejections if one.rule == "disk"}


def test_a_full_fine_tune_of_8b_is_not_put_onto_250_gb() -> None:
    """6 bytes a parameter for the model and what is published; five checkpoints of 4 for weights, 2 for moments."""
    rejected = without_disk(planned(LARGE, adapter={"type": "full"}))
    assert rejected["ml.g5.xlarge"] == (
        "needs 322 GB of disk for the image, the model, checkpoints and files; "
        "its NVMe of 250 GB, which no volume adds to, holds 232"
    )
    assert pytest.approx(EIGHT * (6 + 5 * 6) / 1e9 + 30, rel=0.01) == 322
    too_small = {spec.instance_type for spec in load_catalog() if 0 < spec.nvme_gb < 322 / 0.93}
    assert set(rejected) == too_small, "each by name, and no other"


def test_a_type_whose_gpu_holds_the_run_is_rejected_for_its_disk_alone() -> None:
    """4 bytes on the disk for each of the file: 50 GB are 200, beside the image's 30 and the model."""
    assert "ml.g6e.xlarge" not in without_disk(planned(SMALL, gigabytes=50))
    assert "ml.g6e.xlarge" in without_disk(planned(SMALL, gigabytes=52))


def test_a_spread_that_takes_larger_checkpoints_is_held_against_the_disk_as_such() -> None:
    """Offloading shares the optimizer's states out, in 32 bits: 30 GB a billion parameters more than its 8-bit ones."""
    asked = {"adapter": {"type": "full"}, "constraints": {"instance_types": ["ml.g6e.8xlarge"]}}
    offloaded = planned(LARGE, gigabytes=60, **asked).chosen
    assert offloaded.offload
    with pytest.raises(PlanRefused) as refused:
        planned(LARGE, gigabytes=80, **asked)
    (rejection,) = refused.value.details["rejections"]
    assert rejection["rule"] == "disk"


def test_a_volume_beyond_what_an_account_gets_is_not_planned() -> None:
    plan = planned(SMALL, gigabytes=260)
    assert "volumes of 1,024 GB" in without_disk(plan)["ml.p3.8xlarge"]
    assert "ml.p3.8xlarge" not in without_disk(planned(SMALL, gigabytes=240))


@given(
    gigabytes=st.floats(0.001, 4000), model=st.sampled_from([SMALL, LARGE]), method=st.sampled_from(["lora", "full"])
)
def test_whatever_may_be_planned_has_the_disk_for_it(gigabytes: float, model: str, method: str) -> None:
    plan = planned(model, gigabytes=gigabytes, adapter={"type": method})
    parameters = EIGHT if model == LARGE else 135e6
    least = (4 * gigabytes * 1e9 + parameters * (36 if method == "full" else 2)) / 1e9
    named = {name for rung in plan.rungs for name in rung.instance_types}
    named |= {one.instance_type for one in (plan.chosen, *plan.alternatives)}
    assert least < min(load_catalog().instances[name].nvme_gb or 1100 for name in named)
    assert not named & set(without_disk(plan))


@given(needed=st.integers(1, 40_000), types=st.lists(st.sampled_from(sorted(load_catalog().instances)), min_size=1))
def test_no_more_is_asked_for_than_any_type_takes(needed: int, types: list[str]) -> None:
    asked = volume_gb(types, needed)
    assert asked <= min(load_catalog().instances[name].nvme_gb or 1024 for name in types)
    assert asked <= 1024, "the account's quota counts what is asked for, volume or not"
    assert asked <= needed + 30
