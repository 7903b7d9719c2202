import pytest

from spotune.planner import read_architecture

pytestmark = pytest.mark.torch

SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 500,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
}
CONFIGS = {
    "llama": SHAPE,
    "llama with biases": {**SHAPE, "model_type": "llama", "attention_bias": True, "mlp_bias": True},
    "llama, tied, own head size": {**SHAPE, "model_type": "llama", "tie_word_embeddings": True, "head_dim": 24},
    "mistral": SHAPE,
    "qwen2": SHAPE,
    "qwen3": SHAPE,
    "phi3": SHAPE,
    "gemma": SHAPE,
    "gemma2": SHAPE,
    "gpt2": {"n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 128, "vocab_size": 500},
    "gpt_neox": SHAPE,
    "opt": {
        "hidden_size": 64,
        "word_embed_proj_dim": 64,
        "ffn_dim": 160,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "vocab_size": 500,
        "max_position_embeddings": 128,
    },
}


@pytest.mark.parametrize("name", CONFIGS)
def test_counts_equal_what_transformers_builds_with_its_own_defaults(name):
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM
    from transformers.pytorch_utils import Conv1D

    config = {"model_type": name, **CONFIGS[name]}
    family = str(config.pop("model_type"))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[family](**config))

    architecture = read_architecture({"model_type": family, **config})

    assert architecture.parameters == sum(parameter.numel() for parameter in model.parameters())
    head = model.get_output_embeddings()
    linears = {
        path.rpartition(".")[2]
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not head
    }
    assert {linear.name for linear in architecture.linears} == linears
