"""What tells a model that was read back from another one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.training_container.building import save_model
from training_container.corpus import Row
from training_container.device import Machine
from training_container.publication.probe import SAME, Mismatch, Probe, difference, effect

pytestmark = pytest.mark.torch

CPU = Machine(torch.device("cpu"), "cpu", "fp32")
ROW = Row(torch.arange(60), torch.ones(60, dtype=torch.bool))


@pytest.fixture
def tuned(tmp_path: Any) -> Any:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(save_model(tmp_path / "model"), dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear"))
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "lora_B" in name:
                weights.normal_(0, 0.05)
    return model


def scaled(model: Any, factor: float) -> Any:
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "lora_B" in name:
                weights *= factor
    return model


@pytest.mark.parametrize("factor", [0.0, 0.3, 2.0])
def test_an_adapter_that_is_missing_or_scaled_otherwise_is_told_from_rounding(tuned: Any, factor: float) -> None:
    probe = Probe.of(tuned, [(ROW,)], 0, CPU, adapter=True)
    assert probe.base is not None
    size = difference(probe.base, probe.trained)
    assert probe.check(tuned, SAME, "It") < 1e-6
    with pytest.raises(Mismatch, match="of the adapter's effect"):
        probe.check(scaled(tuned, factor), 1.9 * size, "It")


def test_an_effect_that_drowns_in_the_rounding_that_is_allowed_is_not_looked_for(tuned: Any) -> None:
    probe = Probe.of(tuned, [(ROW,)], 0, CPU, adapter=True)
    assert probe.base is not None
    size = difference(probe.base, probe.trained)
    assert probe.check(scaled(tuned, 0), 3 * size, "It") == pytest.approx(size, rel=1e-4)


def test_another_base_model_is_asked_for_the_adapters_effect_upon_itself(tuned: Any) -> None:
    """As where the base was quantized for training: what rounded it moves both answers alike."""
    probe = Probe.of(tuned, [(ROW,)], 0, CPU, adapter=True)
    rounding = torch.randn(probe.trained.shape, generator=torch.Generator().manual_seed(0))
    assert probe.base is not None
    assert effect(probe.trained + rounding - (probe.base + rounding), probe.trained - probe.base) == pytest.approx(1)


def test_what_is_no_number_is_no_small_difference(tuned: Any) -> None:
    probe = Probe.of(tuned, [(ROW,)], 0, CPU, adapter=True)
    with pytest.raises(Mismatch, match="nan"):
        probe.check(scaled(tuned, float("nan")), 10.0, "It")
