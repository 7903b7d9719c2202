"""IA3 (Liu et al. 2022), by PEFT: learnt factors on keys, values and what leaves the MLP through its last layer."""

from __future__ import annotations

from typing import Any

from spotune.contracts.training import TrainingConfig
from training_container.faults import TrainingFault
from training_container.methods.blocks import Layer, blocks_of, linear_layers
from training_container.methods.targets import endings

KEYS = frozenset({"k_proj", "v_proj", "qkv_proj", "query_key_value", "c_attn", "Wqkv"})
"""Layers that make keys and values, fused with the queries in some families; PEFT's own table names the same."""


def add_ia3(model: Any, config: TrainingConfig) -> Any:
    """Factors of 1 over frozen weights.

    Raises:
        TrainingFault: the architecture has neither of the layers.
    """
    from peft import IA3Config, get_peft_model

    layers = linear_layers(model)
    keys = [layer for layer in layers if layer.attention and layer.name in KEYS]
    out = _mlp_outputs(layers, len(blocks_of(model)[1]))
    if not keys:
        raise TrainingFault(
            "method_not_for_model",
            "IA3 scales keys and values; the model has no layer that makes them.",
            evidence=f"it has {', '.join(sorted({layer.name for layer in layers}))}",
            remedy="Choose lora.",
        )
    outputs = endings(out, layers)
    settings = IA3Config(
        task_type="CAUSAL_LM", target_modules=[*endings(keys, layers), *outputs], feedforward_modules=outputs
    )
    return get_peft_model(model, settings)


def _mlp_outputs(layers: list[Layer], blocks: int) -> list[Layer]:
    """Of each block the last linear layer of the MLP; with experts the shared one's, or none."""
    hidden = next(layer.inputs for layer in layers)
    out: dict[str, Layer] = {}
    for layer in layers:
        if not layer.attention and layer.outputs == hidden:
            out[layer.path.removesuffix(layer.within)] = layer
    return list(out.values())
