"""PiSSA (Meng et al. 2024): the adapter begins as the principal components of each weight, and trains those.

PEFT takes the components out of the base weights, which loses the base model: its scores, its part as the reference of
preference training, and what an adapter is published against. Here the base weights stay, and each layer subtracts the
components as they were at the beginning: W x - s B0 A0 x + s B A x, the same function with the same gradients. What is
published is the difference, [B, -B0] [A; A0], a plain LoRA adapter of twice the rank over the model as it was.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.nn import functional

OVERSAMPLING = 16
"""Components computed beyond those that are kept, which makes those exact (Halko et al. 2011, section 1.5)."""
POWER_ITERATIONS = 16
"""As in the paper's fast start (table 4 there: no loss against the exact decomposition)."""
FIRST_FACTORS = FIRST_A, FIRST_B = "pissa_first_A", "pissa_first_B"
"""Names of the buffers in which a layer keeps the components that it began with."""


def begin_at_principal_components(model: Any, seed: int) -> None:
    """Set each LoRA layer's factors to its weight's principal components and subtract them from its output."""
    for name, layer in lora_layers(model):
        down, up = _principal_components(layer, seed ^ zlib.crc32(name.encode()))
        with torch.no_grad():
            layer.lora_A["default"].weight.copy_(down)
            layer.lora_B["default"].weight.copy_(up)
        layer.register_buffer(FIRST_A, layer.lora_A["default"].weight.detach().clone(), persistent=False)
        layer.register_buffer(FIRST_B, layer.lora_B["default"].weight.detach().clone(), persistent=False)
        layer.register_forward_hook(_without_first)


def lora_layers(model: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    """The layers that carry a LoRA adapter."""
    from peft.tuners.lora import LoraLayer

    return ((name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer))


def has_first_factors(model: torch.nn.Module) -> bool:
    """True where the model's adapter is trained by this method."""
    return any(hasattr(layer, FIRST_A) for _, layer in lora_layers(model))


def difference(model: torch.nn.Module, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A plain LoRA over the untouched base model, with factors of twice the rank: [A; A0] and [B, -B0].

    Args:
        model: the trained model, whose layers hold the factors of the beginning.
        weights: PEFT's state dict of its adapter.
    """
    layers = dict(lora_layers(model))
    found = {}
    for name, tensor in weights.items():
        layer = layers[name.rpartition(".lora_")[0]]
        down = ".lora_A" in name
        first = getattr(layer, FIRST_A) if down else -getattr(layer, FIRST_B)
        found[name] = torch.cat([tensor, first.to(tensor)], dim=0 if down else 1)
    return found


def go_on_from(model: torch.nn.Module, doubled: dict[str, torch.Tensor]) -> None:
    """Give each layer both halves of its published factors: what was trained, and what it began with."""
    for name, layer in lora_layers(model):
        rank = layer.r["default"]
        down, up = doubled[f"{name}.lora_A.weight"], doubled[f"{name}.lora_B.weight"]
        with torch.no_grad():
            layer.lora_A["default"].weight.copy_(down[:rank])
            layer.lora_B["default"].weight.copy_(up[:, :rank])
            getattr(layer, FIRST_A).copy_(down[rank:])
            getattr(layer, FIRST_B).copy_(-up[:, rank:])


def doubled_settings(model: Any) -> Any:
    """PEFT's config of the plain LoRA."""
    settings = copy.copy(model.peft_config["default"])
    settings.r, settings.lora_alpha = 2 * settings.r, 2 * settings.lora_alpha
    return settings


def save_difference(model: Any, folder: Path, weights: dict[str, torch.Tensor]) -> None:
    """Write the plain LoRA, of these weights."""
    from peft.utils import SAFETENSORS_WEIGHTS_NAME

    save_file({name: tensor.cpu().contiguous() for name, tensor in weights.items()}, folder / SAFETENSORS_WEIGHTS_NAME)
    settings = doubled_settings(model)
    settings.inference_mode = True
    settings.save_pretrained(folder)


def _without_first(layer: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
    """The layer's output less its first components, unless it answers as the base model."""
    if layer.disable_adapters:
        return output
    down, up = getattr(layer, FIRST_A), getattr(layer, FIRST_B)
    part = functional.linear(functional.linear(inputs[0].to(down.dtype), down), up)
    left: torch.Tensor = output - layer.scaling["default"] * part.to(output.dtype)
    return left


def _principal_components(layer: Any, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A (rank, inputs) and B (outputs, rank), so that scale x B A is the best approximation of that rank.

    The random start is drawn on the CPU from the seed, so that every machine begins the search at the same place.
    """
    weight = _weight(layer).float()
    rank, scale = layer.r["default"], layer.scaling["default"]
    width = min(rank + OVERSAMPLING, *weight.shape)
    start = torch.randn(weight.shape[1], width, generator=torch.Generator().manual_seed(seed)).to(weight.device)
    left, values, right = _svd(weight, start)
    kept = min(rank, width)
    roots = (values[:kept] / scale).sqrt()
    down, up = weight.new_zeros(rank, weight.shape[1]), weight.new_zeros(weight.shape[0], rank)
    down[:kept], up[:, :kept] = roots[:, None] * right[:kept], left[:, :kept] * roots
    return down, up


def _svd(weight: torch.Tensor, start: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The largest singular values and their vectors, by subspace iteration (Halko et al. 2011, algorithm 4.4)."""
    basis = torch.linalg.qr(weight @ start).Q
    for _ in range(POWER_ITERATIONS):
        basis = torch.linalg.qr(weight @ torch.linalg.qr(weight.T @ basis).Q).Q
    left, values, right = torch.linalg.svd(basis.T @ weight, full_matrices=False)
    return basis @ left, values, right


def _weight(layer: Any) -> torch.Tensor:
    """The base layer's weight as (outputs, inputs), whatever it is stored as."""
    from peft.utils.integrations import dequantize_module_weight

    base = layer.get_base_layer()
    weight: torch.Tensor = dequantize_module_weight(base).detach()
    return weight.T if layer.fan_in_fan_out else weight
