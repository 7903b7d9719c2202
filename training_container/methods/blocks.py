"""Where things are in any decoder: its blocks, their linear layers, attention and MLP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from training_container.faults import TrainingFault

BYPASSED = frozenset({"out_proj", "conv1d"})
"""Layers of state-space blocks whose weights go straight into a fused kernel, past any adapter."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A linear layer of a block."""

    path: str
    """From the model, such as `model.layers.0.self_attn.q_proj`."""
    module: torch.nn.Module
    inputs: int
    outputs: int
    within: str
    """Its path inside its block, such as `self_attn.q_proj`."""

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition(".")[2]

    @property
    def attention(self) -> bool:
        """True where it belongs to attention."""
        return "attn" in self.within or "attention" in self.within

    @property
    def narrow(self) -> int:
        """The smaller of its two sizes, beyond which a rank adds nothing."""
        return min(self.inputs, self.outputs)


def blocks_of(model: Any) -> tuple[str, torch.nn.ModuleList]:
    """The decoder's blocks and their path from the model.

    Raises:
        TrainingFault: there are none to be found.
    """
    decoder = model.get_decoder()
    count = model.config.get_text_config().num_hidden_layers
    for path, module in model.named_modules():
        inside = decoder is model or any(module is one for one in decoder.modules())
        if isinstance(module, torch.nn.ModuleList) and len(module) == count and inside:
            return path, module
    raise TrainingFault(
        "unknown_model_shape",
        f"No list of {count} blocks was found in {type(model).__name__}.",
        remedy="Train it with method full, which changes all weights.",
    )


def final_norms(model: Any) -> list[torch.nn.Module]:
    """The norms beside the blocks, behind the last of them; not those of the embeddings."""
    path = blocks_of(model)[0].rpartition(".")[0]
    beside = model.get_submodule(path).named_children()
    return [module for name, module in beside if type(module).__name__.endswith("Norm") and "embed" not in name]


def linear_layers(model: Any) -> list[Layer]:
    """The layers that can carry an adapter: all linear ones of the blocks, in the model's order."""
    start, blocks = blocks_of(model)
    return [
        Layer(f"{start}.{number}.{within}", module, inputs, outputs, within)
        for number, block in enumerate(blocks)
        for within, module, inputs, outputs in _linears(block)
        if not ("mixer" in within and within.rpartition(".")[2] in BYPASSED)
    ]


def mlp_exit(block: torch.nn.Module) -> torch.nn.Module:
    """What the MLP's result leaves through: its last linear layer, or with experts the whole of it.

    Raises:
        TrainingFault: the block has no MLP.
    """
    experts = [module for name, module in block.named_children() if _has_experts(module)]
    if experts:
        return experts[-1]
    return _last([module for within, module, *_ in _linears(block) if not _is_attention(within)], "MLP")


def attention_exit(block: torch.nn.Module) -> torch.nn.Module:
    """The projection that attention's result leaves through.

    Raises:
        TrainingFault: the block has no attention.
    """
    found = {within: (module, outputs) for within, module, _, outputs in _linears(block) if _is_attention(within)}
    named = [module for within, (module, _) in found.items() if within.rpartition(".")[2] in _EXITS]
    return _last(named or [module for module, _ in found.values()], "attention")


_EXITS = frozenset({"o_proj", "out_proj", "dense", "c_proj", "wo"})


def _linears(block: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module, int, int]]:
    """Paths, modules and sizes. transformers' Conv1D is a linear layer whose weight lies the other way round."""
    from transformers.pytorch_utils import Conv1D

    for path, module in block.named_modules():
        if isinstance(module, torch.nn.Linear):
            yield path, module, module.in_features, module.out_features
        elif isinstance(module, Conv1D):
            yield path, module, module.nx, module.nf


def _is_attention(within: str) -> bool:
    return "attn" in within or "attention" in within


def _has_experts(module: torch.nn.Module) -> bool:
    return any(name == "experts" for name, _ in module.named_children())


def _last(found: list[torch.nn.Module], what: str) -> torch.nn.Module:
    if found:
        return found[-1]
    raise TrainingFault(
        "unknown_model_shape", f"A block of the model has no {what}.", remedy="Choose lora, or full fine-tuning."
    )
