"""Methods that change the base model's own weights: all of them, or those of the last blocks."""

from __future__ import annotations

from typing import Any

import torch

from spotune.contracts.training import AdapterConfig, TrainingConfig
from training_container.faults import TrainingFault
from training_container.methods.blocks import blocks_of, final_norms


def train_all(model: Any, config: TrainingConfig) -> Any:
    """Full fine-tuning: every weight, in the fp32 in which it was loaded; a vision tower stays frozen."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("vision" not in name)
    return model


def train_last_blocks(model: Any, config: TrainingConfig) -> Any:
    """Layer freezing: the last `trained_layers` blocks and the norm behind them, in fp32; the rest is frozen.

    Raises:
        TrainingFault: there are fewer blocks.
    """
    count = (config.adapter or AdapterConfig()).trained_layers
    blocks = blocks_of(model)[1]
    if count > len(blocks):
        raise TrainingFault(
            "too_many_trained_layers",
            f"adapter.trained_layers is {count}; the model has {len(blocks)} blocks.",
            remedy=f"Set it to {len(blocks)} or less, or choose full.",
        )
    model.requires_grad_(False)
    trained: list[torch.nn.Module] = [*blocks[len(blocks) - count :], *final_norms(model)]
    for module in trained:
        module.float().requires_grad_(True)
    return model
