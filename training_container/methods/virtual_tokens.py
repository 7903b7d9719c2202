"""Prefix tuning (Li & Liang 2021) and prompt tuning (Lester et al. 2021), by PEFT: tokens before every sequence.

They stand before a line of a batch, so each line has to be one sequence: rows that were packed side by side would share
them, at wrong distances. And what a prefix adds to attention's memory is dropped under gradient checkpointing.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch

from spotune.contracts.training import AdapterConfig, TrainingConfig
from training_container.faults import TrainingFault

START_DEVIATION = 0.02
"""Of a prefix's first values: near enough to 0 to leave the base model's answers whole, and all different."""


def add_prefix(model: Any, config: TrainingConfig) -> Any:
    """Keys and values of virtual tokens, in every block.

    Raises:
        TrainingFault: rows are packed, or gradients are checkpointed.
    """
    from peft import PrefixTuningConfig, get_peft_model

    _check_unpacked(config)
    if config.hardware.gradient_checkpointing:
        raise TrainingFault(
            "prefix_with_checkpointing",
            "Prefix tuning does not work with gradient checkpointing, which drops the prefix.",
            remedy="Set training.gradient_checkpointing to false, or choose another method.",
        )
    layers, heads, width = _memory(model)
    settings = PrefixTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=(config.adapter or AdapterConfig()).virtual_tokens,
        num_layers=layers,
        num_attention_heads=heads,
        token_dim=heads * width,
    )
    adapted = get_peft_model(model, settings)
    with torch.no_grad():
        adapted.prompt_encoder["default"].embedding.weight.normal_(std=START_DEVIATION)
    return adapted


def add_prompt(model: Any, config: TrainingConfig) -> Any:
    """Embeddings of virtual tokens, which begin as those of words drawn from the vocabulary.

    Raises:
        TrainingFault: rows are packed.
    """
    from peft import PromptTuningConfig, get_peft_model

    _check_unpacked(config)
    settings = PromptTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=(config.adapter or AdapterConfig()).virtual_tokens,
        prompt_tuning_init="SAMPLE_VOCAB",
        num_layers=model.config.get_text_config().num_hidden_layers,
        num_attention_heads=1,  # of no meaning here, and not to be found in every config
        token_dim=model.get_input_embeddings().embedding_dim,
    )
    adapted = get_peft_model(model, settings)
    count_from_the_words(adapted)
    return adapted


def count_from_the_words(model: Any) -> None:
    """Let a prompt-tuned model be asked as its base is.

    The positions that a caller wants logits of count from its own first token, not the first virtual one; and where
    prompts are padded on the left, the padding between virtual tokens and words takes no positions.
    """
    model.register_forward_pre_hook(_shift_kept, with_kwargs=True)
    model.register_forward_hook(_drop_virtual, with_kwargs=True)
    base = model.get_base_model()
    if "position_ids" in inspect.signature(base.forward).parameters:
        base.register_forward_pre_hook(_positions_by_mask, with_kwargs=True)


def _memory(model: Any) -> tuple[int, int, int]:
    """Blocks, key-value heads and width of a head, as the model itself fills attention's memory for one token.

    Raises:
        TrainingFault: its blocks remember in another way, or not all alike.
    """
    with torch.no_grad():
        memory = model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=model.device), use_cache=True)
    blocks = getattr(getattr(memory, "past_key_values", None), "layers", [])
    shapes = {getattr(getattr(block, part, None), "shape", None) for block in blocks for part in ("keys", "values")}
    shape = shapes.pop() if len(shapes) == 1 else None
    if shape is None:
        raise TrainingFault(
            "method_not_for_model",
            "Prefix tuning puts keys and values into attention's memory; this model's blocks have none, or not alike.",
            evidence=type(model).__name__,
            remedy="Choose lora.",
        )
    return len(blocks), shape[1], shape[3]


def _shift_kept(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if model._adapters_disabled:
        return args, kwargs
    kept = kwargs.get("logits_to_keep")
    if isinstance(kept, torch.Tensor):
        kwargs["logits_to_keep"] = torch.where(kept < 0, kept, kept + model.active_peft_config.num_virtual_tokens)
    # Every line is one sequence from its first token on; the model counts virtual tokens and words by itself.
    kwargs["position_ids"] = None
    return args, kwargs


def _positions_by_mask(base: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """PEFT gives none, and the model would count the padding in."""
    mask = kwargs.get("attention_mask")
    if kwargs.get("position_ids") is None and isinstance(mask, torch.Tensor) and mask.dim() == 2:
        given = kwargs["inputs_embeds"] if kwargs.get("inputs_embeds") is not None else kwargs["input_ids"]
        kwargs["position_ids"] = (mask.long().cumsum(-1) - 1).clamp(min=0)[:, -given.shape[1] :]
    return args, kwargs


def _drop_virtual(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    """An architecture that takes no positions to keep answers with all of them: the virtual ones go."""
    words = kwargs["input_ids"].shape[1] if kwargs.get("input_ids") is not None else 0
    tokens = model.active_peft_config.num_virtual_tokens
    if not model._adapters_disabled and output.logits.shape[1] == words + tokens:
        output.logits = output.logits[:, tokens:]
    return output


def _check_unpacked(config: TrainingConfig) -> None:
    if config.data.packing:
        raise TrainingFault(
            "packed_virtual_tokens",
            f"{config.method} tuning does not work with packing: rows side by side would share the virtual tokens.",
            remedy="Set training.packing to false.",
        )
