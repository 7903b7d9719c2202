"""A decoder's shape, read from its `config.json`: exact parameter counts by group, before any weight is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from spotune.contracts.errors import RequestRefused


@dataclass(frozen=True, slots=True)
class Linear:
    """One linear layer of a decoder block, by the name that its module has in transformers."""

    name: str
    inputs: int
    outputs: int
    bias: bool
    group: Literal["attention", "mlp"]

    @property
    def parameters(self) -> int:
        """Weights and bias."""
        return self.inputs * self.outputs + (self.outputs if self.bias else 0)


@dataclass(frozen=True, slots=True)
class Architecture:
    """A dense decoder-only transformer. Counts are parameters, not bytes. No mixture of experts yet."""

    family: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    context: int
    """Longest sequence that the position embedding was made for."""
    softcapped: bool
    """Attention scores and logits pass through a tanh, which keeps more copies of both for the backward pass."""
    gated: bool
    """Gate, up and down projections (SwiGLU, GeGLU); else two linear layers."""
    tied: bool
    linears: tuple[Linear, ...]
    """The linear layers of one block; every block is the same."""
    embedding: int
    """Token and learned position embeddings, with projections of either, where the family has them."""
    norms: int

    @property
    def attention(self) -> int:
        """Attention's linear layers, over all blocks."""
        return self.layers * sum(linear.parameters for linear in self.linears if linear.group == "attention")

    @property
    def mlp(self) -> int:
        """The MLPs' linear layers, over all blocks."""
        return self.layers * sum(linear.parameters for linear in self.linears if linear.group == "mlp")

    @property
    def head(self) -> int:
        """The output projection; zero where it shares the token embedding."""
        return 0 if self.tied else self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All of them, as transformers counts them."""
        return self.embedding + self.attention + self.mlp + self.norms + self.head

    @property
    def matmul_parameters(self) -> int:
        """Weights that each token is multiplied with: the blocks and the head, tied or not, without the look-up."""
        return self.attention + self.mlp + self.vocabulary * self.hidden

    def targets(self, choice: str | tuple[str, ...]) -> tuple[Linear, ...]:
        """The linear layers of one block that an adapter sits on.

        Args:
            choice: `attention`, `all-linear`, or names of modules.

        Raises:
            RequestRefused: a name that no block has.
        """
        if choice == "all-linear":
            return self.linears
        if choice == "attention":
            return tuple(linear for linear in self.linears if linear.group == "attention")
        known = {linear.name for linear in self.linears}
        if unknown := [name for name in choice if name not in known]:
            raise RequestRefused(
                f"{self.family} has no linear layer named {', '.join(unknown)}.",
                code="unknown_target_module",
                param="adapter.target_modules",
                remedy=f"Choose among {', '.join(sorted(known))}, or 'attention', or 'all-linear'.",
            )
        return tuple(linear for linear in self.linears if linear.name in choice)


def read_architecture(config: Mapping[str, object]) -> Architecture:
    """The architecture that a model's `config.json` describes.

    Raises:
        RequestRefused: code `unknown_architecture`; names the family or the key that is missing or wrong.
    """
    family = config.get("model_type")
    read = _READERS.get(str(family))
    if read is None:
        missing = "has no `model_type`" if family is None else f"is of the family {family!r}, which is not known"
        raise RequestRefused(
            f"The model's config.json {missing}: its parameters cannot be counted.",
            code="unknown_architecture",
            param="model",
            remedy=f"Known families: {', '.join(sorted(_READERS))}.",
        )
    return read(_Config(str(family), config))


def known_config(name: str) -> dict[str, object] | None:
    """The bundled facts of a well-known model's `config.json`, by its name on the hub; None where there are none."""
    config = _known_configs().get(name.lower())
    return dict(config) if config is not None else None


@cache
def _known_configs() -> dict[str, dict[str, object]]:
    entries = json.loads(Path(__file__).with_name("data").joinpath("models.json").read_bytes())
    return {name.lower(): entry["config"] for entry in entries for name in entry["names"]}


@dataclass(frozen=True, slots=True)
class _Config:
    """`config.json` with the checks that make a wrong one a refusal instead of a wrong plan."""

    family: str
    values: Mapping[str, object]

    def count(self, *keys: str, default: int | None = None) -> int:
        """A positive whole number under the first of these keys that is present."""
        for key in keys:
            value = self.values.get(key)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise self._refusal(f"has {key} = {value!r}, which must be a whole number above zero")
            return value
        if default is None:
            raise self._refusal(f"lacks `{keys[0]}`")
        return default

    def flag(self, key: str, *, default: bool) -> bool:
        """A boolean, as the family defaults it."""
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._refusal(f"has {key} = {value!r}, which must be true or false")
        return value

    def _refusal(self, what: str) -> RequestRefused:
        return RequestRefused(
            f"The model's config.json ({self.family}) {what}: its parameters cannot be counted.",
            code="unknown_architecture",
            param="model",
            remedy="Take the config.json that came with the weights.",
        )


@dataclass(frozen=True, slots=True)
class _LlamaKind:
    """How the members of the Llama kin differ: biases, norms a block, fused projections, what is tied by default."""

    query_key_value_bias: bool = False
    attention_bias_key: bool = False
    """`attention_bias` in config.json adds biases to all four projections."""
    block_norms: int = 2
    head_norms: bool = False
    """Queries and keys are normed a head."""
    fused: bool = False
    tied: bool = False
    softcapped: bool = False
    head_dim: int | None = None
    """The family's own default; else hidden size over heads."""


def _llama(kind: _LlamaKind) -> Callable[[_Config], Architecture]:
    def read(config: _Config) -> Architecture:
        hidden, heads = config.count("hidden_size"), config.count("num_attention_heads")
        layers, vocabulary = config.count("num_hidden_layers"), config.count("vocab_size")
        kv_heads = config.count("num_key_value_heads", default=heads)
        head_dim = config.count("head_dim", default=kind.head_dim or hidden // heads)
        intermediate = config.count("intermediate_size")
        norms = layers * kind.block_norms * hidden + hidden + (layers * 2 * head_dim if kind.head_norms else 0)
        return Architecture(
            family=config.family,
            hidden=hidden,
            layers=layers,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            intermediate=intermediate,
            vocabulary=vocabulary,
            context=config.count("max_position_embeddings"),
            softcapped=kind.softcapped,
            gated=True,
            tied=config.flag("tie_word_embeddings", default=kind.tied),
            linears=_llama_linears(config, kind, hidden, heads * head_dim, kv_heads * head_dim, intermediate),
            embedding=vocabulary * hidden,
            norms=norms,
        )

    return read


def _llama_linears(
    config: _Config, kind: _LlamaKind, hidden: int, queries: int, keys: int, intermediate: int
) -> tuple[Linear, ...]:
    if kind.fused:
        return (
            Linear("qkv_proj", hidden, queries + 2 * keys, False, "attention"),
            Linear("o_proj", queries, hidden, False, "attention"),
            Linear("gate_up_proj", hidden, 2 * intermediate, False, "mlp"),
            Linear("down_proj", intermediate, hidden, False, "mlp"),
        )
    all_biased = kind.attention_bias_key and config.flag("attention_bias", default=False)
    biased = all_biased or kind.query_key_value_bias
    mlp_bias = config.family == "llama" and config.flag("mlp_bias", default=False)
    return (
        Linear("q_proj", hidden, queries, biased, "attention"),
        Linear("k_proj", hidden, keys, biased, "attention"),
        Linear("v_proj", hidden, keys, biased, "attention"),
        Linear("o_proj", queries, hidden, all_biased, "attention"),
        Linear("gate_proj", hidden, intermediate, mlp_bias, "mlp"),
        Linear("up_proj", hidden, intermediate, mlp_bias, "mlp"),
        Linear("down_proj", intermediate, hidden, mlp_bias, "mlp"),
    )


def _gpt2(config: _Config) -> Architecture:
    hidden, layers = config.count("n_embd", "hidden_size"), config.count("n_layer", "num_hidden_layers")
    vocabulary, context = config.count("vocab_size"), config.count("n_positions", "max_position_embeddings")
    inner = config.count("n_inner", default=4 * hidden)
    linears = (
        Linear("c_attn", hidden, 3 * hidden, True, "attention"),
        Linear("c_proj", hidden, hidden, True, "attention"),
        Linear("c_fc", hidden, inner, True, "mlp"),
        Linear("c_proj", inner, hidden, True, "mlp"),
    )
    heads = config.count("n_head", "num_attention_heads")
    embedding = (vocabulary + context) * hidden
    return _classic(config, hidden, layers, heads, inner, vocabulary, context, linears, embedding, tied=True)


def _gpt_neox(config: _Config) -> Architecture:
    hidden, layers = config.count("hidden_size"), config.count("num_hidden_layers")
    vocabulary, inner = config.count("vocab_size"), config.count("intermediate_size")
    bias = config.flag("attention_bias", default=True)
    linears = (
        Linear("query_key_value", hidden, 3 * hidden, bias, "attention"),
        Linear("dense", hidden, hidden, bias, "attention"),
        Linear("dense_h_to_4h", hidden, inner, True, "mlp"),
        Linear("dense_4h_to_h", inner, hidden, True, "mlp"),
    )
    heads, context = config.count("num_attention_heads"), config.count("max_position_embeddings")
    embedding = vocabulary * hidden
    return _classic(config, hidden, layers, heads, inner, vocabulary, context, linears, embedding, tied=False)


def _opt(config: _Config) -> Architecture:
    hidden, layers = config.count("hidden_size"), config.count("num_hidden_layers")
    vocabulary, inner = config.count("vocab_size"), config.count("ffn_dim")
    if config.count("word_embed_proj_dim", default=hidden) != hidden or not config.flag(
        "do_layer_norm_before", default=True
    ):
        raise RequestRefused(
            "OPT with projected embeddings or norms after the blocks (as the 350M one has) is not known.",
            code="unknown_architecture",
            param="model",
            remedy="Take another size of OPT.",
        )
    bias = config.flag("enable_bias", default=True)
    attention = [Linear(name, hidden, hidden, bias, "attention") for name in ("q_proj", "k_proj", "v_proj", "out_proj")]
    linears = (*attention, Linear("fc1", hidden, inner, bias, "mlp"), Linear("fc2", inner, hidden, bias, "mlp"))
    heads, context = config.count("num_attention_heads"), config.count("max_position_embeddings")
    embedding = (vocabulary + context + 2) * hidden
    return _classic(config, hidden, layers, heads, inner, vocabulary, context, linears, embedding, tied=True)


def _classic(
    config: _Config,
    hidden: int,
    layers: int,
    heads: int,
    inner: int,
    vocabulary: int,
    context: int,
    linears: tuple[Linear, ...],
    embedding: int,
    *,
    tied: bool,
) -> Architecture:
    """GELU decoders with full attention heads and biased layer norms: two a block, one at the end."""
    return Architecture(
        family=config.family,
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=heads,
        head_dim=hidden // heads,
        intermediate=inner,
        vocabulary=vocabulary,
        context=context,
        softcapped=False,
        gated=False,
        tied=config.flag("tie_word_embeddings", default=tied),
        linears=linears,
        embedding=embedding,
        norms=(2 * layers + 1) * 2 * hidden,
    )


_READERS: dict[str, Callable[[_Config], Architecture]] = {
    "llama": _llama(_LlamaKind(attention_bias_key=True)),
    "mistral": _llama(_LlamaKind()),
    "qwen2": _llama(_LlamaKind(query_key_value_bias=True)),
    "qwen3": _llama(_LlamaKind(attention_bias_key=True, head_norms=True, head_dim=128)),
    "phi3": _llama(_LlamaKind(fused=True)),
    "gemma": _llama(_LlamaKind(attention_bias_key=True, tied=True, head_dim=256)),
    "gemma2": _llama(_LlamaKind(attention_bias_key=True, tied=True, head_dim=256, block_norms=4, softcapped=True)),
    "gpt2": _gpt2,
    "gpt_neox": _gpt_neox,
    "opt": _opt,
}
