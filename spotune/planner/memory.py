"""What a training run needs on one GPU, by part, in bytes.

The formulas count what transformers and PEFT keep for the backward pass; `Calibration` has what they leave open.
docs/planning.md has them as a table, `make bench-planner` their errors against published measurements.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from spotune.contracts.plan import MemoryEstimate, Precision
from spotune.planner.calibration import Calibration, our_calibration
from spotune.planner.workload import LORA_KIN, WHOLE, Layout, Workload, ia3_targets

BYTES: dict[Precision, int] = {"bf16": 2, "fp16": 2, "fp32": 4}
FOUR_BIT_BYTES = 0.5 + 0.127 / 8
"""NF4 and FP4: four bits and, with double quantization, 0.127 bit of scales (the QLoRA paper)."""
INT8_BYTES = 1.0

MOMENT_BYTES = {"adamw": 4.0, "paged_adamw": 4.0, "adamw_8bit": 1.03, "paged_adamw_8bit": 1.03}
"""One of AdamW's two moments: fp32, or 8 bit with a scale a block of 256 (bitsandbytes). Paged ones are counted, as
they leave the GPU only where it runs out."""

FUSED_LOGIT_SHARE = 0.12
"""Of the logits, what a loss in chunks keeps at a time, with its chunk's gradients."""

CONTEXT_BYTES = 700 * 1024**2
"""CUDA context and cuBLAS work space, which the allocator does not count."""

BUCKET_ELEMENTS = 5e8
"""DeepSpeed's reduce bucket, of ZeRO-1 and above."""
ZERO3_LIVE_ELEMENTS = 1e9
"""Parameters that ZeRO-3 keeps gathered at a time (`stage3_max_live_parameters`)."""

STATIC_MARGIN, DYNAMIC_MARGIN, FIXED_MARGIN = 0.056, 0.45, 1.35e9
"""What the 95 % value adds: to weights and states, to activations, logits and buffers, and in all.

The largest miss among the 39 peaks that constants were fitted on takes 0.7 of it; the rest makes up for the fit itself,
whose 20 constants that matter leave misses smaller than new runs will have (times the root of 39 over 39 - 20).
"""


PARTS = ("weights", "adapters", "gradients", "optimizer", "activations", "logits", "sharding")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on one GPU, as the search computes with them."""

    weights: float
    adapters: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    sharding: float
    context: float
    usable: int

    @property
    def counted(self) -> float:
        """What PyTorch's allocator reports: all but the CUDA context."""
        return self.mid - CONTEXT_BYTES

    @property
    def mid(self) -> float:
        """The estimate."""
        static = self.weights + self.adapters + self.gradients + self.optimizer
        return static + self.activations + self.logits + self.sharding + self.context

    @property
    def p95(self) -> float:
        """What must fit."""
        static = self.weights + self.adapters + self.gradients + self.optimizer
        dynamic = self.activations + self.logits + self.sharding
        return self.mid + STATIC_MARGIN * static + DYNAMIC_MARGIN * dynamic + FIXED_MARGIN

    @property
    def fits(self) -> bool:
        """By the 95 % value."""
        return self.p95 <= self.usable

    def scaled(self, factor: float) -> Memory:
        """With every part but the CUDA context times this: what runs of its kind showed."""
        if factor == 1.0:
            return self
        parts = {name: getattr(self, name) * factor for name in PARTS}
        return replace(self, **parts, context=CONTEXT_BYTES + (self.context - CONTEXT_BYTES) * factor)

    def stated(self) -> MemoryEstimate:
        """As a plan says it."""
        parts = {name: round(getattr(self, name)) for name in (*PARTS, "context")}
        return MemoryEstimate(parts=parts, mid=sum(parts.values()), p95=round(self.p95), usable=self.usable)


def estimate_memory(work: Workload, layout: Layout, *, usable: int, calibration: Calibration | None = None) -> Memory:
    """Peak bytes on one GPU.

    Args:
        usable: what the card offers, passed through.
        calibration: of another training stack than ours.
    """
    stack = calibration or our_calibration()
    tokens = layout.micro_batch * work.row_sequences * _longest_pass(work)
    fixed = _static(work, layout.sharding, layout.gpus, layout.offload)
    block, kept = _activations(work)
    factor = stack.activations if work.quantization == "none" else stack.quantized_activations
    blocks = work.architecture.layers * work.differentiated
    saved = kept * blocks + block * factor * min(blocks, 1) if layout.checkpointing else block * factor * blocks
    activations = tokens * saved + fixed.unpacked
    fused = FUSED_LOGIT_SHARE if work.fused_cross_entropy else 1.0
    logits = tokens * work.architecture.vocabulary * (stack.logits + _softcap_logits(work)) * fused
    gradients = fixed.gradients
    if work.global_batch <= layout.micro_batch * layout.gpus:
        # Without accumulation, gradients come as activations go: only what exceeds them adds to the peak.
        gradients = max(gradients - activations - logits, 0.0)
    return Memory(
        weights=fixed.weights,
        adapters=fixed.adapters,
        gradients=gradients,
        optimizer=fixed.optimizer,
        activations=activations,
        logits=logits,
        sharding=fixed.sharding,
        context=CONTEXT_BYTES + stack.overhead,
        usable=usable,
    )


def host_bytes(work: Workload, layout: Layout) -> int:
    """What offloading puts into the memory of one machine: fp32 states, and under ZeRO-3 and FSDP the weights."""
    if not layout.offload:
        return 0
    trainable = work.trainable_parameters
    states = trainable * (2 * MOMENT_BYTES[work.optimizer] + 4 + 4)
    weights = weight_bytes(work) if layout.sharding in ("zero3", "fsdp") else 0.0
    return round((states + weights) / layout.hosts)


def weight_bytes(work: Workload) -> float:
    """The whole model: 16 bit where it is frozen, quantized in the blocks' linear layers, fp32 where it trains."""
    architecture, size = work.architecture, BYTES[work.precision]
    if work.method == "full":
        return architecture.parameters * (4 if work.master_weights else size)
    if work.method == "freeze":
        trained = work.trainable_parameters * (4 if work.master_weights else size)
        return trained + (architecture.parameters - work.trainable_parameters) * size
    if work.quantization == "none":
        return architecture.parameters * size
    quantized = architecture.quantizable_parameters
    each = INT8_BYTES if work.quantization == "int8" else FOUR_BIT_BYTES
    return quantized * each + (architecture.parameters - quantized) * size


def _longest_pass(work: Workload) -> int:
    return work.sequence_length + (work.virtual_tokens if work.method == "prompt" else 0)


@dataclass(frozen=True, slots=True)
class _Static:
    weights: float
    adapters: float
    gradients: float
    optimizer: float
    sharding: float
    unpacked: float


@lru_cache(maxsize=4096)
def _static(work: Workload, sharding: str, gpus: int, offload: bool) -> _Static:
    """What does not depend on the micro-batch."""
    trainable, whole = work.trainable_parameters, work.method in WHOLE
    in_fp32 = not whole or work.master_weights or work.precision == "fp32"
    weights, gradients = weight_bytes(work), trainable * (4.0 if in_fp32 else 2.0)
    optimizer = trainable * 2 * (MOMENT_BYTES[work.optimizer] if in_fp32 else min(MOMENT_BYTES[work.optimizer], 2.0))
    shards_weights, shards_gradients = sharding in ("zero3", "fsdp"), sharding in ("zero2", "zero3", "fsdp")
    held = 0.0 if offload and shards_weights else weights / (gpus if shards_weights else 1)
    return _Static(
        weights=held + _sixteen_bit_copies(work, sharding, gpus),
        adapters=0.0 if whole else trainable * _adapter_bytes(work) / (gpus if shards_weights else 1),
        gradients=0.0 if offload else gradients / (gpus if shards_gradients else 1),
        optimizer=0.0 if offload else optimizer / (1 if sharding in ("none", "ddp") else gpus),
        sharding=_buffers(work, sharding, gpus, gradients),
        unpacked=0.0 if work.quantization == "none" else work.architecture.widest * 2.0,
    )


def _adapter_bytes(work: Workload) -> float:
    """A trainable parameter: fp32; PiSSA keeps the components that it began with, too."""
    return 8.0 if work.method == "pissa" else 4.0


def _sixteen_bit_copies(work: Workload, sharding: str, gpus: int) -> float:
    """Of fp32 weights, what computing in 16 bit holds beside them; FSDP and ZeRO-3 gather theirs block by block."""
    if work.method not in WHOLE or not work.master_weights or work.precision == "fp32":
        return 0.0
    if sharding == "fsdp":
        return 0.0
    fp32 = work.architecture.parameters if work.method == "full" else work.trainable_parameters
    return fp32 * 2.0 / (gpus if sharding == "zero3" else 1)


def _buffers(work: Workload, sharding: str, gpus: int, gradients: float) -> float:
    """Communication buckets, and parameters that are gathered for computing."""
    architecture = work.architecture
    if sharding == "none":
        return 0.0
    if sharding == "ddp":
        return gradients
    bucket = min(BUCKET_ELEMENTS, work.trainable_parameters) * 4.0
    if sharding in ("zero1", "zero2"):
        return bucket
    whole = weight_bytes(work) if work.method != "full" else architecture.parameters * 2.0
    share, elsewhere = whole / architecture.parameters, whole * (gpus - 1) / gpus
    ends = architecture.vocabulary * architecture.hidden * 2.0
    if sharding == "fsdp":
        return min(2 * architecture.block_parameters * share + ends, elsewhere)
    return min(ZERO3_LIVE_ELEMENTS * share + ends, elsewhere) + bucket


@lru_cache(maxsize=512)
def _activations(work: Workload) -> tuple[float, float]:
    """Bytes a token that one block saves for its backward pass, and that checkpointing keeps of it: its input."""
    architecture, size = work.architecture, BYTES[work.precision]
    queries, keys = architecture.heads * architecture.head_dim, architecture.kv_heads * architecture.head_dim
    norms = 2 * 4 * architecture.hidden
    attention = 2 * size * (queries + keys) + _scores(work)
    mlp = (3 if architecture.gated else 2) * size * architecture.intermediate
    return norms + attention + mlp + _method_activations(work, size), size * architecture.hidden


def _method_activations(work: Workload, size: int) -> float:
    """What the method saves beyond frozen blocks: inputs of whatever trains."""
    architecture = work.architecture
    if work.method in WHOLE:
        queries = architecture.heads * architecture.head_dim
        return size * (4 * architecture.hidden + queries + architecture.intermediate)
    if work.method == "ia3":
        scaled = ia3_targets(architecture)
        return 1.5 * size * sum(one.outputs if one.group == "attention" else one.inputs for one in scaled)
    if work.method == "bottleneck":
        return 2 * size * (2 * architecture.hidden + 2 * work.rank)
    if work.method not in LORA_KIN:
        return 0.0
    inputs = sum(linear.layers * (linear.inputs + work.rank) for linear in work.targets) / architecture.layers
    outputs = sum(linear.layers * linear.outputs for linear in work.targets) / architecture.layers
    return size * inputs + (4 * size * outputs if work.method == "dora" else 0.0)


def _scores(work: Workload) -> float:
    """Attention scores a token, where attention is not fused: logits, their softmax in fp32, and its 16-bit copy."""
    if work.attention == "sdpa" and not work.architecture.softcapped:
        return 0.0
    each = 14 if work.architecture.softcapped else 8
    return each * work.architecture.heads * work.sequence_length


def _softcap_logits(work: Workload) -> float:
    return 6.0 if work.architecture.softcapped else 0.0
