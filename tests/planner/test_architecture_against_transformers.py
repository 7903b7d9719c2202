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
MIXTURE = {**SHAPE, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
FALCON = {key: value for key, value in SHAPE.items() if key not in ("intermediate_size", "num_key_value_heads")}
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
    "smollm3": SHAPE,
    "granite": SHAPE,
    "granite with biases": {**SHAPE, "model_type": "granite", "attention_bias": True, "mlp_bias": True},
    "olmo2": SHAPE,
    "cohere": SHAPE,
    "stablelm": SHAPE,
    "stablelm, parallel, with biases": {
        **SHAPE,
        "model_type": "stablelm",
        "use_parallel_residual": True,
        "use_qkv_bias": True,
    },
    "phi": SHAPE,
    "gemma3_text": SHAPE,
    "gemma3": {
        "text_config": {**SHAPE, "model_type": "gemma3_text", "head_dim": 16},
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "patch_size": 14,
            "image_size": 56,
            "vision_use_head": False,
        },
        "mm_tokens_per_image": 4,
    },
    "mpt": {"d_model": 64, "n_heads": 4, "n_layers": 3, "vocab_size": 500, "max_seq_len": 128},
    "falcon": FALCON,
    "falcon of the newer decoder": {
        **FALCON,
        "model_type": "falcon",
        "new_decoder_architecture": True,
        "num_kv_heads": 2,
    },
    "falcon, one norm after the other, with biases": {
        **FALCON,
        "model_type": "falcon",
        "multi_query": False,
        "parallel_attn": False,
        "bias": True,
        "alibi": True,
    },
    "mixtral": {**SHAPE, "num_local_experts": 4, "num_experts_per_tok": 2},
    "olmoe": {**SHAPE, "num_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": MIXTURE,
    "qwen3_moe, some blocks dense": {**MIXTURE, "model_type": "qwen3_moe", "mlp_only_layers": [1]},
    "qwen2_moe": {**MIXTURE, "shared_expert_intermediate_size": 96},
    "qwen2_moe, every second block": {
        **MIXTURE,
        "model_type": "qwen2_moe",
        "shared_expert_intermediate_size": 96,
        "decoder_sparse_step": 2,
    },
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

    assert _by_group(architecture) == _groups_of(model)
    assert architecture.parameters == sum(parameter.numel() for parameter in model.parameters())
    head = model.get_output_embeddings()
    linears = {
        path.rpartition(".")[2]
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not head and "vision" not in path
    }
    assert {linear.name for linear in architecture.linears} == linears


def _by_group(architecture):
    return {
        "embedding": architecture.embedding,
        "attention": architecture.attention,
        "mlp": architecture.mlp,
        "norms": architecture.norms,
        "head": architecture.head,
        "vision": architecture.vision,
    }


def _groups_of(model):
    """Parameters by group, told by the names of transformers' modules alone."""
    groups = dict.fromkeys(("embedding", "attention", "mlp", "norms", "head", "vision"), 0)
    for path, parameter in model.named_parameters():
        groups[_group_of(path)] += parameter.numel()
    return groups


def _group_of(path):
    if "vision" in path or "multi_modal" in path:
        return "vision"
    if "lm_head" in path or "embed_out" in path:
        return "head"
    if any(word in path for word in ("norm", "ln_")):
        return "norms"
    if any(word in path for word in ("embed", "wte", "wpe")):
        return "embedding"
    if any(word in path for word in ("attn", "attention")):
        return "attention"
    return "mlp"
