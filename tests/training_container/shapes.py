"""A tiny config of each family that differs from the others in where its layers are and what they are called."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

COMMON = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA = {**COMMON, "intermediate_size": 48, "num_key_value_heads": 2, "max_position_embeddings": 64}
TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "gpt2": {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "gpt_neox": {**COMMON, "intermediate_size": 48, "max_position_embeddings": 64},
    "opt": {**COMMON, "ffn_dim": 48, "word_embed_proj_dim": 32, "max_position_embeddings": 64},
    "falcon": COMMON,
    "mpt": {"vocab_size": 64, "d_model": 32, "n_layers": 2, "n_heads": 4},
    "bloom": {"vocab_size": 64, "hidden_size": 32, "n_layer": 2, "n_head": 4},
    "phi": {**COMMON, "intermediate_size": 48, "max_position_embeddings": 64},
    "phi3": LLAMA,
    "gemma2": {**LLAMA, "head_dim": 8},
    "qwen3": {**LLAMA, "head_dim": 16},
    "mixtral": {**LLAMA, "num_local_experts": 4},
    "qwen2_moe": {
        **LLAMA,
        "num_experts": 4,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
        "num_experts_per_tok": 2,
    },
    "qwen3_moe": {
        **LLAMA,
        "num_experts": 4,
        "moe_intermediate_size": 16,
        "head_dim": 8,
        "num_experts_per_tok": 2,
        "mlp_only_layers": [0],
    },
    "mamba": {"vocab_size": 64, "hidden_size": 32, "state_size": 4, "num_hidden_layers": 2},
}


def shaped(family: str) -> Any:
    """A random model of the family, in fp32."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **CONFIGS[family], **TOKENS)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
