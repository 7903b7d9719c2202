"""Trainable parameters, equal to what PEFT makes trainable."""

import pytest

from spotune.planner import read_architecture
from spotune.planner.workload import Workload

pytestmark = pytest.mark.torch

SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 500,
    "max_position_embeddings": 128,
}
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def work(method, rank=4):
    architecture = read_architecture({"model_type": "llama", **SHAPE})
    return Workload(
        architecture=architecture,
        method=method,
        targets=architecture.targets("all-linear"),
        rank=rank,
        virtual_tokens=rank,
        trained_layers=2,
        optimizer="adamw",
        sequence_length=64,
        typical_length=64,
        global_batch=8,
    )


def adapters():
    from peft import IA3Config, LoraConfig, PrefixTuningConfig, PromptTuningConfig

    lora = {"task_type": "CAUSAL_LM", "r": 4, "target_modules": LINEARS}
    return {
        "lora": LoraConfig(**lora),
        "rslora": LoraConfig(**lora, use_rslora=True),
        "dora": LoraConfig(**lora, use_dora=True),
        "pissa": LoraConfig(**lora, init_lora_weights="pissa_niter_2"),
        "ia3": IA3Config(task_type="CAUSAL_LM"),
        "prefix": PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
        "prompt": PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
    }


@pytest.mark.parametrize("method", ["lora", "rslora", "dora", "pissa", "ia3", "prefix", "prompt"])
def test_trainable_parameters_are_those_that_peft_makes(method):
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM, LlamaConfig

    model = get_peft_model(AutoModelForCausalLM.from_config(LlamaConfig(**SHAPE)), adapters()[method])
    assert work(method).trainable_parameters == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_freezing_trains_the_last_blocks_and_the_norm_behind_them():
    from transformers import AutoModelForCausalLM, LlamaConfig

    from tests.factories import config
    from training_container.methods import adapt

    shape = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPE))
    model = adapt(shape, config(method="freeze", adapter={"trained_layers": 2}))
    assert work("freeze").trainable_parameters == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_full_training_trains_the_whole_model():
    assert work("full").trainable_parameters == work("full").architecture.parameters


def test_bottleneck_adapters_have_the_papers_count():
    # Houlsby et al. 2019, section 2.1: 2md + d + m for each of the two adapters of a layer.
    assert work("bottleneck", rank=8).trainable_parameters == 3 * 2 * (2 * 8 * 64 + 64 + 8)
