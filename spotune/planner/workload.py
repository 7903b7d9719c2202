"""What is trained, and how one step of it is laid out over GPUs: the two things that memory and speed follow from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from spotune.contracts.plan import Precision, Sharding
from spotune.contracts.request import Method
from spotune.planner.architecture import Architecture, Linear

Quantization = Literal["none", "nf4", "int8"]
Optimizer = Literal["adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit"]
Attention = Literal["sdpa", "eager"]


@dataclass(frozen=True, slots=True)
class Workload:
    """What is trained, apart from the machine: the model, the method and the size of a step.

    `global_batch` counts sequences an optimizer step, each of `sequence_length` tokens at most, `typical_length` on
    average: memory goes by the former, speed by the latter.
    """

    architecture: Architecture
    method: Method
    targets: tuple[Linear, ...]
    """Layers that carry an adapter; the whole model's where `method` is full."""
    rank: int
    """LoRA and its kin: the rank. Bottleneck adapters: the inner size. Prefix tuning: virtual tokens."""
    optimizer: Optimizer
    sequence_length: int
    typical_length: int
    global_batch: int
    quantization: Quantization = "none"
    """Of the frozen base model."""
    precision: Precision = "bf16"
    """Of the arithmetic."""
    attention: Attention = "sdpa"
    fused_cross_entropy: bool = False
    """The loss is computed in chunks, so that the logits never exist at once."""
    packing: bool = True

    @property
    def trainable_parameters(self) -> int:
        """Of the adapter, or of the whole model."""
        if self.method == "full":
            return self.architecture.parameters
        return self.rank * sum(linear.layers * (linear.inputs + linear.outputs) for linear in self.targets)


@dataclass(frozen=True, slots=True)
class Layout:
    """How one step is spread: over `gpus` in all, on `hosts` machines."""

    micro_batch: int
    """Sequences a GPU in one forward pass."""
    checkpointing: bool
    """Activations are recomputed block by block."""
    gpus: int = 1
    hosts: int = 1
    sharding: Sharding = "none"
    """`none` on one GPU; `ddp` and above on several."""
    offload: bool = False
    """Optimizer states, and under ZeRO-3 and FSDP the parameters, live in host memory."""
