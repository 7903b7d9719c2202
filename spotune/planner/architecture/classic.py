"""Decoders with two linear layers in the MLP: GPT-2, GPT-NeoX, OPT, MPT, Falcon, Phi."""

from __future__ import annotations

from spotune.planner.architecture.config import Config
from spotune.planner.architecture.shape import Architecture, Linear


def read_gpt2(config: Config) -> Architecture:
    """Learned positions, fused attention."""
    hidden, layers = config.count("n_embd", "hidden_size"), config.count("n_layer", "num_hidden_layers")
    vocabulary, context = config.count("vocab_size"), config.count("n_positions", "max_position_embeddings")
    inner = config.count("n_inner", default=4 * hidden)
    linears = (
        Linear("c_attn", hidden, 3 * hidden, True, "attention", layers),
        Linear("c_proj", hidden, hidden, True, "attention", layers),
        Linear("c_fc", hidden, inner, True, "mlp", layers),
        Linear("c_proj", inner, hidden, True, "mlp", layers),
    )
    heads = config.count("n_head", "num_attention_heads")
    embedding = (vocabulary + context) * hidden
    return _classic(config, hidden, layers, heads, inner, vocabulary, context, linears, embedding, tied=True)


def read_gpt_neox(config: Config) -> Architecture:
    """Pythia, and StableLM's first generation."""
    hidden, layers = config.count("hidden_size"), config.count("num_hidden_layers")
    vocabulary, inner = config.count("vocab_size"), config.count("intermediate_size")
    bias = config.flag("attention_bias", default=True)
    linears = (
        Linear("query_key_value", hidden, 3 * hidden, bias, "attention", layers),
        Linear("dense", hidden, hidden, bias, "attention", layers),
        Linear("dense_h_to_4h", hidden, inner, True, "mlp", layers),
        Linear("dense_4h_to_h", inner, hidden, True, "mlp", layers),
    )
    heads, context = config.count("num_attention_heads"), config.count("max_position_embeddings")
    return _classic(config, hidden, layers, heads, inner, vocabulary, context, linears, vocabulary * hidden, tied=False)


def read_opt(config: Config) -> Architecture:
    """All sizes but the 350M, whose embeddings are projected."""
    hidden, layers = config.count("hidden_size"), config.count("num_hidden_layers")
    vocabulary, inner = config.count("vocab_size"), config.count("ffn_dim")
    projected = config.count("word_embed_proj_dim", default=hidden) != hidden
    if projected or not config.flag("do_layer_norm_before", default=True):
        raise config.refusal(
            "has projected embeddings or norms after the blocks, as OPT's 350M one, which is not known"
        )
    bias = config.flag("enable_bias", default=True)
    names = ("q_proj", "k_proj", "v_proj", "out_proj")
    attention = [Linear(name, hidden, hidden, bias, "attention", layers) for name in names]
    mlp = (Linear("fc1", hidden, inner, bias, "mlp", layers), Linear("fc2", inner, hidden, bias, "mlp", layers))
    heads, context = config.count("num_attention_heads"), config.count("max_position_embeddings")
    embedding = (vocabulary + context + 2) * hidden
    return _classic(config, hidden, layers, heads, inner, vocabulary, context, (*attention, *mlp), embedding, tied=True)


def read_mpt(config: Config) -> Architecture:
    """No biases at all; transformers widens the MLP four times, whatever `expansion_ratio` says."""
    hidden, layers = config.count("d_model", "hidden_size"), config.count("n_layers", "num_hidden_layers")
    vocabulary, context = config.count("vocab_size"), config.count("max_seq_len", default=2048)
    linears = (
        Linear("Wqkv", hidden, 3 * hidden, False, "attention", layers),
        Linear("out_proj", hidden, hidden, False, "attention", layers),
        Linear("up_proj", hidden, 4 * hidden, False, "mlp", layers),
        Linear("down_proj", 4 * hidden, hidden, False, "mlp", layers),
    )
    heads = config.count("n_heads", "num_attention_heads")
    return _classic(
        config,
        hidden,
        layers,
        heads,
        4 * hidden,
        vocabulary,
        context,
        linears,
        vocabulary * hidden,
        tied=True,
        norms=(2 * layers + 1) * hidden,
        biased_norms=False,
    )


def read_falcon(config: Config) -> Architecture:
    """One key-value head (7B), or the newer decoder's groups (40B); attention and MLP side by side."""
    hidden, heads = config.count("hidden_size"), config.count("num_attention_heads", "n_head")
    layers, vocabulary = config.count("num_hidden_layers", "n_layer"), config.count("vocab_size")
    head_dim, bias = max(hidden // heads, 1), config.flag("bias", default=False)
    kv_heads = _falcon_kv_heads(config, heads)
    inner = config.count("ffn_hidden_size", default=4 * hidden)
    linears = (
        Linear("query_key_value", hidden, (heads + 2 * kv_heads) * head_dim, bias, "attention", layers),
        Linear("dense", hidden, hidden, bias, "attention", layers),
        Linear("dense_h_to_4h", hidden, inner, bias, "mlp", layers),
        Linear("dense_4h_to_h", inner, hidden, bias, "mlp", layers),
    )
    context = config.count("max_position_embeddings", default=2048)
    return _classic(
        config,
        hidden,
        layers,
        heads,
        inner,
        vocabulary,
        context,
        linears,
        vocabulary * hidden,
        tied=True,
        norms=(_falcon_block_norms(config) * layers + 1) * 2 * hidden,
        kv_heads=kv_heads,
    )


def read_phi(config: Config) -> Architecture:
    """Phi-1.5 and Phi-2: attention and MLP side by side behind one norm, biases everywhere."""
    hidden, layers = config.count("hidden_size"), config.count("num_hidden_layers")
    heads, inner = config.count("num_attention_heads"), config.count("intermediate_size")
    kv_heads, head_dim = config.count("num_key_value_heads", default=heads), max(hidden // heads, 1)
    linears = (
        Linear("q_proj", hidden, heads * head_dim, True, "attention", layers),
        Linear("k_proj", hidden, kv_heads * head_dim, True, "attention", layers),
        Linear("v_proj", hidden, kv_heads * head_dim, True, "attention", layers),
        Linear("dense", heads * head_dim, hidden, True, "attention", layers),
        Linear("fc1", hidden, inner, True, "mlp", layers),
        Linear("fc2", inner, hidden, True, "mlp", layers),
    )
    if config.flag("qk_layernorm", default=False):
        raise config.refusal("norms queries and keys, which is not known")
    vocabulary, context = config.count("vocab_size"), config.count("max_position_embeddings")
    return _classic(
        config,
        hidden,
        layers,
        heads,
        inner,
        vocabulary,
        context,
        linears,
        vocabulary * hidden,
        tied=False,
        norms=(layers + 1) * 2 * hidden,
        kv_heads=kv_heads,
        head_bias=True,
    )


def _falcon_kv_heads(config: Config, heads: int) -> int:
    if config.flag("new_decoder_architecture", default=False):
        return config.count("num_kv_heads", default=heads)
    return 1 if config.flag("multi_query", default=True) else heads


def _falcon_block_norms(config: Config) -> int:
    if not config.flag("parallel_attn", default=True):
        return 2
    newer = config.flag("new_decoder_architecture", default=False)
    return 2 if config.count("num_ln_in_parallel_attn", default=2 if newer else 1) == 2 else 1


def _classic(
    config: Config,
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
    norms: int | None = None,
    biased_norms: bool = True,
    kv_heads: int | None = None,
    head_bias: bool = False,
) -> Architecture:
    """`norms` defaults to biased layer norms: two a block, one at the end."""
    return Architecture(
        family=config.family,
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads or heads,
        head_dim=max(hidden // heads, 1),
        intermediate=inner,
        vocabulary=vocabulary,
        context=context,
        gated=False,
        tied=config.flag("tie_word_embeddings", default=tied),
        linears=linears,
        embedding=embedding,
        norms=(2 * layers + 1) * 2 * hidden if norms is None else norms,
        biased_norms=biased_norms,
        head_bias=head_bias,
    )
