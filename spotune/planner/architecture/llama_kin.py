"""Llama and its kin: gated MLPs, rotary positions, grouped attention heads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from spotune.planner.architecture.config import Config
from spotune.planner.architecture.shape import Architecture, Linear

HeadNorms = Literal["none", "head", "all"]
"""Queries and keys are normed: not at all, a head with one weight vector for all heads, or over all heads at once."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How the members of the kin differ: biases, norms a block, fused projections, what is tied by default."""

    query_key_value_bias: bool = False
    attention_bias_key: bool = False
    """`attention_bias` in config.json adds biases to all four projections."""
    mlp_bias_key: bool = False
    block_norms: int = 2
    biased_norms: bool = False
    head_norms: HeadNorms = "none"
    fused: bool = False
    tied: bool = False
    softcapped: bool = False
    head_dim: int | None = None
    """The family's own default; else hidden size over heads."""


def llama_kin(kind: Kind) -> Callable[[Config], Architecture]:
    """A reader of configs of this kind."""
    return lambda config: read_dense(config, kind)


def read_dense(config: Config, kind: Kind) -> Architecture:
    """A dense model of this kind."""
    frame = read_frame(config, kind)
    intermediate = config.count("intermediate_size")
    return frame.build(
        intermediate=intermediate,
        linears=(*frame.attention, *gated_mlp(config, kind, frame.hidden, intermediate, frame.layers)),
    )


@dataclass(frozen=True, slots=True)
class Frame:
    """All of a model but its MLPs."""

    config: Config
    kind: Kind
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    attention: tuple[Linear, ...]
    norms: int

    def build(self, *, intermediate: int, linears: tuple[Linear, ...], **more: object) -> Architecture:
        """The architecture with these linear layers."""
        config = self.config
        vocabulary = config.count("vocab_size")
        return Architecture(
            family=config.family,
            hidden=self.hidden,
            layers=self.layers,
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_dim=self.head_dim,
            intermediate=intermediate,
            vocabulary=vocabulary,
            context=config.count("max_position_embeddings"),
            softcapped=self.kind.softcapped,
            tied=config.flag("tie_word_embeddings", default=self.kind.tied),
            linears=linears,
            embedding=vocabulary * self.hidden,
            norms=self.norms,
            biased_norms=self.kind.biased_norms,
            **more,  # type: ignore[arg-type]
        )


def read_frame(config: Config, kind: Kind) -> Frame:
    """Attention and norms."""
    hidden, heads = config.count("hidden_size"), config.count("num_attention_heads")
    layers = config.count("num_hidden_layers")
    kv_heads = config.count("num_key_value_heads", default=heads)
    head_dim = config.count("head_dim", default=kind.head_dim or max(hidden // heads, 1))
    queries, keys = heads * head_dim, kv_heads * head_dim
    head_norms = {"none": 0, "head": 2 * head_dim, "all": queries + keys}[kind.head_norms]
    norms = (layers * kind.block_norms + 1) * hidden * (2 if kind.biased_norms else 1) + layers * head_norms
    return Frame(
        config=config,
        kind=kind,
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        attention=_attention(config, kind, hidden, queries, keys, layers),
        norms=norms,
    )


def gated_mlp(config: Config, kind: Kind, hidden: int, intermediate: int, layers: int) -> tuple[Linear, ...]:
    """Gate, up and down projections of this many blocks."""
    if layers == 0:
        return ()
    if kind.fused:
        return (
            Linear("gate_up_proj", hidden, 2 * intermediate, False, "mlp", layers),
            Linear("down_proj", intermediate, hidden, False, "mlp", layers),
        )
    bias = kind.mlp_bias_key and config.flag("mlp_bias", default=False)
    return (
        Linear("gate_proj", hidden, intermediate, bias, "mlp", layers),
        Linear("up_proj", hidden, intermediate, bias, "mlp", layers),
        Linear("down_proj", intermediate, hidden, bias, "mlp", layers),
    )


def _attention(config: Config, kind: Kind, hidden: int, queries: int, keys: int, layers: int) -> tuple[Linear, ...]:
    if kind.fused:
        return (
            Linear("qkv_proj", hidden, queries + 2 * keys, False, "attention", layers),
            Linear("o_proj", queries, hidden, False, "attention", layers),
        )
    all_biased = kind.attention_bias_key and config.flag("attention_bias", default=False)
    biased = all_biased or kind.query_key_value_bias or config.flag("use_qkv_bias", default=False)
    return (
        Linear("q_proj", hidden, queries, biased, "attention", layers),
        Linear("k_proj", hidden, keys, biased, "attention", layers),
        Linear("v_proj", hidden, keys, biased, "attention", layers),
        Linear("o_proj", queries, hidden, all_biased, "attention", layers),
    )
