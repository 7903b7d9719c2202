"""Mixtures of experts: Mixtral, Qwen's and OLMoE."""

from __future__ import annotations

from spotune.planner.architecture.config import Config
from spotune.planner.architecture.llama_kin import Kind, gated_mlp, read_frame
from spotune.planner.architecture.shape import Architecture, Experts, Linear


def read_mixtral(config: Config) -> Architecture:
    """Every block has the experts."""
    return _mixture(config, Kind(), config.count("num_local_experts", "num_experts"), "intermediate_size")


def read_olmoe(config: Config) -> Architecture:
    """As Mixtral, with normed queries and keys."""
    kind = Kind(attention_bias_key=True, head_norms="all")
    return _mixture(config, kind, config.count("num_experts", "num_local_experts"), "intermediate_size")


def read_qwen2_moe(config: Config) -> Architecture:
    """Some blocks may be dense; the others have a shared expert behind a gate of its own."""
    kind = Kind(query_key_value_bias=config.flag("qkv_bias", default=True))
    return _mixture(config, kind, config.count("num_experts"), "moe_intermediate_size", shared=True)


def read_qwen3_moe(config: Config) -> Architecture:
    """Some blocks may be dense; no shared expert."""
    kind = Kind(attention_bias_key=True, head_norms="head")
    return _mixture(config, kind, config.count("num_experts"), "moe_intermediate_size")


def _mixture(config: Config, kind: Kind, count: int, width: str, *, shared: bool = False) -> Architecture:
    frame = read_frame(config, kind)
    per_token, hidden = config.count("num_experts_per_tok"), frame.hidden
    if per_token > count:
        raise config.refusal(f"has num_experts_per_tok = {per_token}, more than its {count} experts")
    sparse = _sparse_layers(config, frame.layers)
    experts = Experts(layers=sparse, count=count, per_token=per_token, hidden=hidden, intermediate=config.count(width))
    beside = config.count("shared_expert_intermediate_size") if shared else 0
    linears = (
        *frame.attention,
        *gated_mlp(config, kind, hidden, config.count("intermediate_size"), frame.layers - sparse),
        *_shared_expert(hidden, beside, sparse),
    )
    return frame.build(
        intermediate=per_token * experts.intermediate + beside, linears=linears, experts=experts if sparse else None
    )


def _shared_expert(hidden: int, intermediate: int, layers: int) -> tuple[Linear, ...]:
    if intermediate == 0 or layers == 0:
        return ()
    return (
        Linear("gate_proj", hidden, intermediate, False, "mlp", layers),
        Linear("up_proj", hidden, intermediate, False, "mlp", layers),
        Linear("down_proj", intermediate, hidden, False, "mlp", layers),
        Linear("shared_expert_gate", hidden, 1, False, "mlp", layers),
    )


def _sparse_layers(config: Config, layers: int) -> int:
    """Blocks with experts: every so many, but those that are named as dense."""
    dense = set(config.numbers("mlp_only_layers"))
    step = config.count("decoder_sparse_step", default=1)
    return sum(layer not in dense and (layer + 1) % step == 0 for layer in range(layers))
