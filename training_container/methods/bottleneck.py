"""Bottleneck adapters (Houlsby et al. 2019): two small MLPs a block, behind attention's and the MLP's projection.

PEFT has none, so they are ours: a folder of `adapter_model.safetensors` and `adapter_config.json`, as PEFT's are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from spotune.contracts.training import AdapterConfig, TrainingConfig
from training_container.faults import TrainingFault
from training_container.methods.blocks import attention_exit, blocks_of, mlp_exit

KIND = "spotune_bottleneck"
WEIGHTS_NAME = "adapter_model.safetensors"
CONFIG_NAME = "adapter_config.json"
PLACES = {"attention_adapter": attention_exit, "mlp_adapter": mlp_exit}
"""Names of a block's two adapters, and the module whose result each changes."""


class Bottleneck(nn.Module):
    """x + up(gelu(down(x))): 2 h m + h + m parameters for a hidden size of h and an inner one of m, in fp32.

    It begins as the identity. Shape: (..., h) in and out.
    """

    def __init__(self, hidden: int, inner: int, device: torch.device) -> None:
        super().__init__()
        self.down = nn.Linear(hidden, inner, device=device, dtype=torch.float32)
        self.up = nn.Linear(inner, hidden, device=device, dtype=torch.float32)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)
        self.enabled = True

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Changes what it is given, unless it is not enabled."""
        if not self.enabled:
            return hidden
        change = self.up(functional.gelu(self.down(hidden.to(self.down.weight.dtype))))
        changed: torch.Tensor = hidden + change.to(hidden.dtype)
        return changed


def add_bottlenecks(model: Any, config: TrainingConfig) -> Any:
    """Two adapters a block over frozen weights.

    Raises:
        TrainingFault: the inner size is not below the hidden size, or a block has no attention or MLP.
    """
    inner, hidden = (config.adapter or AdapterConfig()).rank, model.config.get_text_config().hidden_size
    if inner > hidden:
        raise TrainingFault(
            "rank_above_layer",
            f"The adapters' inner size is {inner}; the model's hidden size is {hidden}.",
            remedy=f"Set adapter.rank to less than {hidden}.",
        )
    model.requires_grad_(False)
    return _insert(model, inner)


def bottlenecks(model: nn.Module) -> Iterator[tuple[str, Bottleneck]]:
    """The model's adapters by their paths."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, Bottleneck))


@contextmanager
def without_bottlenecks(model: nn.Module) -> Iterator[None]:
    """Inside, the model answers as its base."""
    found = [module for _, module in bottlenecks(model)]
    for module in found:
        module.enabled = False
    try:
        yield
    finally:
        for module in found:
            module.enabled = True


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """The adapters' weights by their names in the file."""
    return {
        f"{path}.{name}": tensor for path, module in bottlenecks(model) for name, tensor in module.state_dict().items()
    }


def settings_of(model: nn.Module) -> dict[str, Any]:
    """What tells these adapters from others, as the config says it."""
    _, first = next(bottlenecks(model))
    return {"peft_type": KIND, "inner": first.down.out_features}


def save_bottlenecks(model: Any, folder: Path, config: TrainingConfig, weights: dict[str, torch.Tensor]) -> None:
    """Write `weights_of` the model, and the config."""
    save_file({name: tensor.cpu().contiguous() for name, tensor in weights.items()}, folder / WEIGHTS_NAME)
    origin = {"base_model_name_or_path": config.model.name, "revision": config.model.revision or None}
    (folder / CONFIG_NAME).write_text(json.dumps(settings_of(model) | origin, indent=2))


def load_bottlenecks(model: Any, folder: Path) -> Any:
    """The base model with the adapters of a folder.

    Raises:
        RuntimeError: they belong to a model of another shape.
    """
    inner = json.loads((folder / CONFIG_NAME).read_bytes())["inner"]
    adapted = _insert(model.requires_grad_(False), inner)
    weights = load_file(folder / WEIGHTS_NAME)
    _, unexpected = adapted.load_state_dict(weights, strict=False)
    lacking = [path for path, _ in bottlenecks(adapted) if f"{path}.up.weight" not in weights]
    if unexpected or lacking:
        raise RuntimeError(f"the adapters are another model's: {', '.join([*unexpected, *lacking][:3])}")
    return adapted


def _insert(model: Any, inner: int) -> Any:
    hidden = model.config.get_text_config().hidden_size
    for block in blocks_of(model)[1]:
        device = next(block.parameters()).device
        for name, exit_of in PLACES.items():
            place = exit_of(block)
            adapter = Bottleneck(hidden, inner, device)
            block.add_module(name, adapter)
            place.register_forward_hook(_behind(adapter))
    return model


def _behind(adapter: Bottleneck) -> Any:
    def change(module: nn.Module, inputs: object, output: Any) -> Any:
        if isinstance(output, tuple):
            return (adapter(output[0]), *output[1:])
        return adapter(output)

    return change
