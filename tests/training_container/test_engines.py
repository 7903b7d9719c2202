"""Engines in one process: what is begun anew, what a checkpoint carries over, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from spotune.contracts.checkpoint import RunState
from spotune.contracts.training import ExitCode, TrainingConfig
from tests.training_container.building import CONFIG, ROOT, make_root
from training_container.device import Machine
from training_container.faults import TrainingFault
from training_container.sharding.engine import Setting
from training_container.sharding.replicated import Single
from training_container.sharding.world import ALONE

pytestmark = pytest.mark.torch

HALF = Machine(torch.device("cpu"), "cpu", "fp16")
QUICK: dict[str, Any] = {"optimization": {"epochs": 1}, "evaluation": {"generation_examples": 0}}
CASES: dict[str, dict[str, Any]] = {
    "zero2": {"hardware": {"sharding": "zero2", "offload": True}},
    "zero2-probed": {"hardware": {"sharding": "zero2", "offload": True}},
    "zero3": {"hardware": {"sharding": "zero3"}},
    "zero3-probed": {"hardware": {"sharding": "zero3"}},
    "pissa": {"method": "pissa", "hardware": {"sharding": "zero3"}},
    "freeze": {
        "method": "freeze",
        "adapter": {"trained_layers": 1},
        "hardware": {"sharding": "zero2", "precision": "bf16"},
    },
}


class Weights(torch.nn.Linear):
    """A model of one layer."""

    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())


def half_engine() -> Single:
    torch.manual_seed(0)
    config = TrainingConfig.model_validate({**CONFIG, "method": "full", "adapter": None})
    return Single(Setting(Weights(4, 4), config, HALF, ALONE))


def step(engine: Single) -> None:
    engine.begin()
    engine.backward(engine.model(torch.ones(1, 4)).sum())
    engine.step(0.01)


def test_a_run_in_fp16_goes_on_with_its_loss_scale() -> None:
    whole, cut, resumed = half_engine(), half_engine(), half_engine()
    step(whole)
    step(cut)
    written = RunState(loss_scale=cut.loss_scale).model_dump_json()
    resumed.load_weights(cut.weights().__getitem__)
    resumed.load_optimizer_state(cut.optimizer_state(), RunState.model_validate_json(written).loss_scale)
    step(whole)
    step(resumed)
    assert resumed.loss_scale == whole.loss_scale
    assert resumed.loss_scale["_growth_tracker"] == 2
    assert torch.equal(resumed.model.weight, whole.model.weight)


def test_int8_is_not_spread_by_fsdp(root: Callable[..., Path], train: Callable[..., ExitCode]) -> None:
    with pytest.raises(TrainingFault) as caught:
        train(root(quantization="int8", hardware={"sharding": "fsdp"}))
    assert caught.value.code == "quantization_not_sharded"


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """A folder of jobs that one process trained with DeepSpeed, without a launcher."""
    folder = tmp_path_factory.mktemp("alone")
    for name, change in CASES.items():
        make_root(folder / name, model, count=12, **QUICK, **change)
    command = [sys.executable, str(ROOT / "tests" / "training_container" / "alone.py"), str(folder)]
    environment = {name: value for name, value in os.environ.items() if name != "LOCAL_RANK"}
    more = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    said = subprocess.run(command, env=environment | more, capture_output=True, text=True, timeout=300, check=False)
    assert said.returncode == 0, said.stderr[-3000:]
    return folder


@pytest.mark.parametrize("name", CASES)
def test_one_process_trains_with_deepspeed(ended: Path, name: str) -> None:
    assert json.loads((ended / "ends.json").read_text())[name] == str(int(ExitCode.PUBLISHED))


@pytest.mark.parametrize("sharding", ["zero2", "zero3"])
def test_no_gradient_of_the_probe_is_left_in_the_first_step(ended: Path, sharding: str) -> None:
    plain, probed = (
        load_file(ended / name / "model" / "adapter_model.safetensors") for name in (sharding, f"{sharding}-probed")
    )
    assert all(torch.equal(plain[name], probed[name]) for name in plain)
