"""What is trained, and how one step of it is laid out over GPUs: the two things that memory and speed follow from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from spotune.contracts.plan import Attention, Optimizer, Precision, Sharding
from spotune.contracts.request import Method, Objective, Quantization
from spotune.planner.architecture import Architecture, Linear

LORA_KIN = frozenset[Method]({"lora", "qlora", "dora", "rslora", "pissa"})
WHOLE = frozenset[Method]({"full", "freeze"})
"""Those that train the model's own weights, without an adapter."""
UNPACKED = frozenset[Method]({"prefix", "prompt"})
"""Their tokens stand once before a sequence; in a packed one only the first example would have them."""
REPLICATED = frozenset[Sharding]({"none", "ddp"})
"""Each GPU has all of the optimizer's state. Where it is shared out, moments are torch's or DeepSpeed's own in fp32:
bitsandbytes' 8-bit ones come in blocks that cannot be cut."""
CHECKPOINTING = (False, True)
"""What is tried where the request leaves it open."""
UNCHECKPOINTED = frozenset[Method]({"prefix"})
"""It lies in attention's memory, which gradient checkpointing drops."""
UNSHARED = frozenset[Method]({"prefix", "prompt"})
"""What they train lies outside of the model's blocks, by which weights are shared out."""
COMPARED: dict[Objective, int] = {"supervised": 1, "dpo": 2, "orpo": 2, "kto": 1}
"""Sequences a row: a preference has two answers to one prompt."""
FURTHER_PASSES: dict[Objective, int] = {"supervised": 0, "dpo": 0, "orpo": 0, "kto": 1}
"""Forward passes without a gradient a sequence and step: KTO's over another prompt's answer."""
REFERENCE_PASSES: dict[Objective, int] = {"supervised": 0, "dpo": 1, "orpo": 0, "kto": 2}
"""Forward passes of the base model a training sequence, once a run: what it gives to each answer is kept."""


@dataclass(frozen=True, eq=False)
class Workload:
    """What is trained, apart from the machine: the model, the method and the size of a step.

    `global_batch` counts rows an optimizer step (packed sequences, or examples), each of one sequence or, of
    preferences, two; a sequence has `sequence_length` tokens at most, `typical_length` on average: memory goes by the
    former, speed by the latter.
    """

    architecture: Architecture
    method: Method
    targets: tuple[Linear, ...]
    """Layers that carry an adapter, of LoRA and its kin."""
    rank: int
    """LoRA and its kin: the rank. Bottleneck adapters: the inner size."""
    optimizer: Optimizer
    sequence_length: int
    typical_length: int
    global_batch: int
    optimizer_open: bool = False
    """True where another one may be taken, as a sharding needs it."""
    virtual_tokens: int = 20
    """Of prefix and prompt tuning."""
    trained_layers: int = 2
    """Of layer freezing: the last blocks."""
    objective: Objective = "supervised"
    quantization: Quantization = "none"
    precision: Precision = "bf16"
    """Of the arithmetic."""
    attention: Attention = "sdpa"
    fused_cross_entropy: bool = False
    """The loss is computed in chunks, so that the logits never exist at once."""
    packing: bool = True
    """Padding is left out, so that `typical_length` is near `sequence_length`."""
    master_weights: bool = True
    """Full training: fp32 weights, gradients and moments, computing through 16-bit copies; else all of it in 16 bit."""

    @cached_property
    def trainable_parameters(self) -> int:
        """Of the adapter as PEFT builds it, of the last blocks with the final norm, or of the model's text part."""
        architecture = self.architecture
        match self.method:
            case "full":
                return architecture.parameters - architecture.vision
            case "freeze":
                blocks = architecture.attention + architecture.mlp + architecture.norms - architecture.final_norm
                return self.trained_blocks * blocks // architecture.layers + architecture.final_norm
            case "ia3":
                return sum(linear.layers * _scaled(linear) for linear in ia3_targets(architecture))
            case "prefix":
                return self.virtual_tokens * architecture.layers * 2 * architecture.kv_heads * architecture.head_dim
            case "prompt":
                return self.virtual_tokens * architecture.hidden
            case "bottleneck":
                return 2 * architecture.layers * (2 * architecture.hidden * self.rank + self.rank + architecture.hidden)
        return self._low_rank_parameters

    @property
    def _low_rank_parameters(self) -> int:
        factors = self.rank * sum(linear.layers * (linear.inputs + linear.outputs) for linear in self.targets)
        magnitudes = sum(linear.layers * linear.outputs for linear in self.targets) if self.method == "dora" else 0
        return factors + magnitudes

    @property
    def trained_blocks(self) -> int:
        """Of layer freezing."""
        return min(self.trained_layers, self.architecture.layers)

    @property
    def differentiated(self) -> float:
        """Share of the blocks that the backward pass goes through."""
        return self.trained_blocks / self.architecture.layers if self.method == "freeze" else 1.0

    @property
    def row_sequences(self) -> int:
        """Sequences a row."""
        return COMPARED[self.objective]


@dataclass(frozen=True, slots=True)
class Layout:
    """How one step is spread: over `gpus` in all, on `hosts` machines."""

    micro_batch: int
    """Rows a GPU in one forward pass."""
    checkpointing: bool
    """Activations are recomputed block by block."""
    gpus: int = 1
    hosts: int = 1
    sharding: Sharding = "none"
    """`none` on one GPU; `ddp` and above on several."""
    offload: bool = False
    """Optimizer states, and under ZeRO-3 and FSDP the parameters, live in host memory."""

    @property
    def spread(self) -> tuple[Sharding, bool]:
        """Sharding and offloading."""
        return self.sharding, self.offload


def ia3_targets(architecture: Architecture) -> tuple[Linear, ...]:
    """The layers that IA3 scales: what makes keys and values, and what leads out of the MLP, as in PEFT's table."""
    keys = [linear for linear in architecture.linears if linear.name in _IA3_KEYS]
    out = [one for one in architecture.linears if one.group == "mlp" and one.outputs == architecture.hidden]
    return (*keys, *out[-1:])


_IA3_KEYS = frozenset({"k_proj", "v_proj", "qkv_proj", "query_key_value", "c_attn", "Wqkv"})


def _scaled(linear: Linear) -> int:
    """One factor an output of attention's layers, one an input of the MLP's."""
    return linear.outputs if linear.group == "attention" else linear.inputs
