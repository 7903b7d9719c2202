"""The model that is trained: what of it changes, and that it does."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import torch

from training_container.methods.pissa import FIRST_FACTORS
from training_container.quantization import check_unpacked


def trainable(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Parameters that training changes, by name, in the model's order."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def carried(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What a checkpoint keeps of the model: what training changes, and what another machine would not compute again
    bit for bit, such as PiSSA's first factors."""
    fixed = {name: buffer for name, buffer in model.named_buffers() if name.rpartition(".")[2] in FIRST_FACTORS}
    return {**trainable(model), **fixed}


def check_gradients(model: torch.nn.Module, reached: Container[str]) -> None:
    """After the first backward pass: every trainable parameter was reached by it, by name.

    A kernel that repacks its weights can cut the graph silently; training would go on and learn nothing. Experts that
    no token of the step was routed to have none by right.
    """
    check_unpacked(model)
    missing = [name for name in trainable(model) if "expert" not in name and name not in reached]
    if missing:
        raise RuntimeError(f"{len(missing)} trainable parameters have no gradient, the first: {missing[0]}")


def with_gradient(model: torch.nn.Module) -> set[str]:
    """Names of the trainable parameters that have a gradient."""
    return {name for name, parameter in trainable(model).items() if parameter.grad is not None}


def count_parameters(model: Any) -> tuple[int, int]:
    """Trainable parameters and all of them; a quantized weight counts as what it stands for."""
    count = sum(parameter.numel() for parameter in trainable(model).values())
    return count, int(model.num_parameters())
