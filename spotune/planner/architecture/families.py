"""From a `config.json` to the architecture that it describes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from spotune.contracts.errors import RequestRefused
from spotune.planner.architecture.classic import (
    read_falcon,
    read_gpt2,
    read_gpt_neox,
    read_mpt,
    read_opt,
    read_phi,
)
from spotune.planner.architecture.config import Config
from spotune.planner.architecture.llama_kin import Kind, llama_kin, read_dense
from spotune.planner.architecture.mixture import read_mixtral, read_olmoe, read_qwen2_moe, read_qwen3_moe
from spotune.planner.architecture.shape import Architecture, Linear


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
    return read(Config(str(family), config))


def _read_qwen(config: Config) -> Architecture:
    """The first Qwen, which transformers itself does not build: `intermediate_size` is twice the inner size."""
    hidden, layers, heads = (config.count(key) for key in ("hidden_size", "num_hidden_layers", "num_attention_heads"))
    inner, vocabulary = config.count("intermediate_size") // 2, config.count("vocab_size")
    linears = (
        Linear("c_attn", hidden, 3 * hidden, True, "attention", layers),
        Linear("c_proj", hidden, hidden, False, "attention", layers),
        Linear("w1", hidden, inner, False, "mlp", layers),
        Linear("w2", hidden, inner, False, "mlp", layers),
        Linear("c_proj", inner, hidden, False, "mlp", layers),
    )
    return Architecture(
        family="qwen",
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=heads,
        head_dim=max(hidden // heads, 1),
        intermediate=inner,
        vocabulary=vocabulary,
        context=config.count("seq_length", "max_position_embeddings"),
        tied=False,
        linears=linears,
        embedding=vocabulary * hidden,
        norms=(2 * layers + 1) * hidden,
    )


def _read_stablelm(config: Config) -> Architecture:
    """Biased norms; in its parallel form one a block."""
    if config.flag("qk_layernorm", default=False):
        raise config.refusal("norms queries and keys, which is not known")
    parallel = config.flag("use_parallel_residual", default=False)
    return read_dense(config, Kind(block_norms=1 if parallel else 2, biased_norms=True))


def _read_cohere(config: Config) -> Architecture:
    """One norm a block, attention and MLP side by side."""
    if config.flag("use_qk_norm", default=False):
        raise config.refusal("norms queries and keys, which is not known")
    return read_dense(config, Kind(attention_bias_key=True, block_norms=1, tied=True))


_GEMMA3 = Kind(attention_bias_key=True, tied=True, head_dim=256, block_norms=4, head_norms="head")


def _read_gemma3(config: Config) -> Architecture:
    """The sizes that see: the language model with its vision tower, which stays frozen."""
    text = config.part("text_config")
    language = read_dense(Config("gemma3", {"tie_word_embeddings": True, **text.values}), _GEMMA3)
    vision = config.part("vision_config")
    width, inner = vision.count("hidden_size"), vision.count("intermediate_size")
    patch, image = vision.count("patch_size"), vision.count("image_size")
    block = 4 * (width * width + width) + 2 * width * inner + inner + width + 4 * width
    patches = width * (3 * patch * patch + 1) + (image // patch) ** 2 * width
    tower = patches + vision.count("num_hidden_layers") * block + 2 * width
    return replace(language, vision=tower + width * language.hidden + width)


FAMILIES_WITH_CODE = frozenset({"qwen"})
"""Families that are counted here, and that transformers builds by Python code of the model's own repository alone."""

_READERS: dict[str, Callable[[Config], Architecture]] = {
    "cohere": _read_cohere,
    "falcon": read_falcon,
    "gemma": llama_kin(Kind(attention_bias_key=True, tied=True, head_dim=256)),
    "gemma2": llama_kin(Kind(attention_bias_key=True, tied=True, head_dim=256, block_norms=4, softcapped=True)),
    "gemma3": _read_gemma3,
    "gemma3_text": llama_kin(_GEMMA3),
    "gpt2": read_gpt2,
    "gpt_neox": read_gpt_neox,
    "granite": llama_kin(Kind(attention_bias_key=True, mlp_bias_key=True)),
    "llama": llama_kin(Kind(attention_bias_key=True, mlp_bias_key=True)),
    "mistral": llama_kin(Kind()),
    "mixtral": read_mixtral,
    "mpt": read_mpt,
    "olmo2": llama_kin(Kind(attention_bias_key=True, head_norms="all")),
    "olmoe": read_olmoe,
    "opt": read_opt,
    "phi": read_phi,
    "phi3": llama_kin(Kind(fused=True)),
    "qwen": _read_qwen,
    "qwen2": llama_kin(Kind(query_key_value_bias=True)),
    "qwen2_moe": read_qwen2_moe,
    "qwen3": llama_kin(Kind(attention_bias_key=True, head_norms="head", head_dim=128)),
    "qwen3_moe": read_qwen3_moe,
    "smollm3": llama_kin(Kind(attention_bias_key=True, mlp_bias_key=True, tied=True)),
    "stablelm": _read_stablelm,
}
