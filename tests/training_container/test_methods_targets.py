"""Targets and counts in many architectures: groups find their layers, PEFT changes those alone, the planner agrees."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from peft.tuners.lora import LoraLayer

from spotune.contracts.request import Method
from spotune.contracts.training import TrainingConfig
from spotune.planner import read_architecture
from spotune.planner.workload import Workload
from tests.training_container.building import CONFIG
from tests.training_container.shapes import CONFIGS, TOKENS, shaped
from training_container.faults import TrainingFault
from training_container.methods import adapt
from training_container.model import check_gradients, count_parameters, with_gradient

pytestmark = pytest.mark.torch

PLANNED = sorted(CONFIGS.keys() - {"bloom", "mamba", "qwen3_moe"})
"""Families whose tiny config the planner reads."""
ATTENTION = {
    "llama": {"q_proj", "k_proj", "v_proj", "o_proj"},
    "gpt2": {"attn.c_attn", "attn.c_proj"},
    "gpt_neox": {"attention.query_key_value", "attention.dense"},
    "opt": {"q_proj", "k_proj", "v_proj", "out_proj"},
    "falcon": {"self_attention.query_key_value", "self_attention.dense"},
    "mpt": {"attn.Wqkv", "attn.out_proj"},
    "bloom": {"self_attention.query_key_value", "self_attention.dense"},
    "phi": {"q_proj", "k_proj", "v_proj", "self_attn.dense"},
    "phi3": {"qkv_proj", "o_proj"},
    "mixtral": {"q_proj", "k_proj", "v_proj", "o_proj"},
    "qwen2_moe": {"q_proj", "k_proj", "v_proj", "o_proj"},
}


def config(method: Method = "lora", **adapter: Any) -> TrainingConfig:
    settings = {"rank": 4, "virtual_tokens": 5, "trained_layers": 1, **adapter}
    data = {**CONFIG["data"], "packing": False}
    whole = {"adapter": None if method == "full" else settings, "method": method, "data": data}
    return TrainingConfig.model_validate({**CONFIG, **whole})


def changed(model: Any) -> set[str]:
    return {name.removeprefix("base_model.model.") for name, one in model.named_modules() if isinstance(one, LoraLayer)}


def fault_of(family: str, method: Method = "lora", **adapter: Any) -> TrainingFault:
    with pytest.raises(TrainingFault) as caught:
        adapt(shaped(family), config(method, **adapter))
    return caught.value


@pytest.mark.parametrize("family", sorted(ATTENTION))
def test_attention_is_all_linear_layers_of_attention_and_no_other(family: str) -> None:
    found = changed(adapt(shaped(family), config(target_modules="attention")))
    assert found
    assert all(any(f".{path}".endswith(f".{name}") for name in ATTENTION[family]) for path in found)
    assert len(found) == 2 * len(ATTENTION[family])


@pytest.mark.parametrize("family", sorted(CONFIGS.keys() - {"mamba", "qwen3_moe"}))
def test_all_linear_is_every_linear_layer_of_the_blocks(family: str) -> None:
    model = shaped(family)
    linear = {name for name, one in model.named_modules() if type(one).__name__ in ("Linear", "Conv1D", "FalconLinear")}
    head = {name for name, one in model.named_modules() if one is model.get_output_embeddings()}
    assert changed(adapt(model, config())) == linear - head


def test_layers_that_a_fused_kernel_reads_past_any_adapter_carry_none() -> None:
    assert {path.rpartition(".")[2] for path in changed(adapt(shaped("mamba"), config(rank=2)))} == {
        "in_proj",
        "x_proj",
        "dt_proj",
    }


def test_dense_layers_whose_names_peft_gives_to_experts_carry_no_adapter_and_no_expert_does_instead() -> None:
    adapted = adapt(shaped("qwen3_moe"), config())
    assert {path.rpartition(".")[2] for path in changed(adapted)} == {"q_proj", "k_proj", "v_proj", "o_proj"}
    fault = fault_of("qwen3_moe", target_modules=["down_proj"])
    assert fault.code == "unknown_target_modules"


@pytest.mark.parametrize(
    ("family", "name"), [("gpt2", "c_fc"), ("gpt_neox", "dense_h_to_4h"), ("mpt", "Wqkv"), ("mixtral", "o_proj")]
)
def test_an_unknown_name_lists_those_that_exist(family: str, name: str) -> None:
    fault = fault_of(family, target_modules=["nothing"])
    assert fault.code == "unknown_target_modules"
    assert name in fault.evidence
    assert len(changed(adapt(shaped(family), config(target_modules=[name])))) == 2


@pytest.mark.parametrize("method", sorted(set(get_args(Method)) - {"qlora", "rslora"}))
@pytest.mark.parametrize("family", PLANNED)
def test_a_method_trains_as_many_parameters_as_the_planner_says_and_all_of_them(family: str, method: Method) -> None:
    model = adapt(shaped(family), config(method))
    architecture = read_architecture({"model_type": family, **CONFIGS[family], **TOKENS, **planner_facts(family)})
    planned = Workload(
        architecture=architecture,
        method=method,
        targets=architecture.targets("all-linear"),
        rank=4,
        virtual_tokens=5,
        trained_layers=1,
        optimizer="adamw",
        sequence_length=8,
        typical_length=8,
        global_batch=1,
    )
    assert count_parameters(model)[0] == planned.trainable_parameters
    model(input_ids=torch.arange(3, 12)[None], use_cache=False).logits.float().pow(2).mean().backward()
    check_gradients(model, with_gradient(model))


def planner_facts(family: str) -> dict[str, Any]:
    """What transformers fills in where a config is silent."""
    return dict(shaped(family).config.to_dict())


@pytest.mark.parametrize("method", ["ia3", "prefix", "bottleneck"])
def test_a_method_that_needs_attention_is_refused_where_there_is_none(method: Method) -> None:
    assert fault_of("mamba", method).code in ("method_not_for_model", "unknown_model_shape")
