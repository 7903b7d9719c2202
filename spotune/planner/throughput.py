"""How fast GPUs train: arithmetic at a share of the peak, launches, 4-bit weights, the optimizer, communication."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from spotune.planner.calibration import Calibration, our_calibration
from spotune.planner.catalog import Gpu
from spotune.planner.memory import MOMENT_BYTES, weight_bytes
from spotune.planner.span import Span
from spotune.planner.workload import FURTHER_PASSES, WHOLE, Layout, Workload

UNPACK_BYTES = {"none": 0, "nf4": 8, "fp4": 8, "int8": 6}
"""Memory traffic a quantized weight and pass: read, write in 16 bit, read again by the product."""

ADAPTER_BACKWARD, WHOLE_BACKWARD = 1, 2
"""Passes: towards the inputs, and towards the weights, where these train."""

ATTENTION_COST = 2.5
"""Of attention's operations, counted for causal attention, against those of matrix products: fused kernels reach less
of the peak (published runs at 8,192 to 32,768 tokens)."""

HALF_WIDTH, HALF_TOKENS = 500, 500
"""Hidden size, and tokens a pass, at which matrix products reach half of what wide and long ones do."""

OPTIMIZER_PASSES = 2.0
"""How often an unfused AdamW goes over its states, against reading and writing them once."""

DORA_LAUNCH, ZERO3_LAUNCH = 2.0, 3.0
"""Launches of DoRA's norms against LoRA's; of a block that hooks gather parameters for against one that has them."""

EAGER_SHARE = 0.75
"""Of the speed with fused attention, at a few hundred tokens; scores in memory cost more the longer the sequence."""

SLOW_FP32 = 8.0
"""How much slower fp32 arithmetic is than 16 bit on cards with tensor cores (their data sheets, without TF32)."""

HOST_LINK = 12e9
"""Bytes a second between host memory and a GPU that offloading can count on: PCIe 4 x16 at half its peak."""

LOW, HIGH = 0.65, 1.35
"""The interval about the mid speed: 90 % of the published runs lie within it (`make bench-planner`)."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens a second over all GPUs: in training, and in a forward pass alone."""

    training: Span
    forward: float


def estimate_speed(
    work: Workload,
    layout: Layout,
    gpu: Gpu,
    *,
    link: float = 0.0,
    network: float = 0.0,
    calibration: Calibration | None = None,
) -> Speed:
    """Tokens a second over all GPUs.

    Arithmetic and launches overlap, so that a pass takes the root of the sum of their squares; unpacking, the
    optimizer's step and what computing does not hide of the communication add to it.

    Args:
        link: bytes a second between two GPUs of one machine; without any, through the host.
        network: bytes a second between machines.
        calibration: of another training stack than ours.
    """
    stack = calibration or our_calibration()
    tokens = layout.micro_batch * work.row_sequences * work.typical_length
    forward = tokens * _forward_flops(work) / (_rate(work, gpu, stack) * _fullness(work, tokens))
    launch = _launch(work, layout, stack)
    unpack = work.architecture.quantizable_parameters * UNPACK_BYTES[work.quantization] / gpu.bandwidth
    computing = _overlap(
        _passes(work, layout.checkpointing) * forward,
        _passes(work, layout.checkpointing, backward=WHOLE_BACKWARD) / (1 + WHOLE_BACKWARD) * launch,
    )
    computing += _passes(work, layout.checkpointing, backward=ADAPTER_BACKWARD) * unpack
    accumulation = max(work.global_batch // (layout.micro_batch * layout.gpus), 1)
    step = accumulation * computing + _optimizer_seconds(work, layout, gpu)
    step += stack.communication * _communication_seconds(work, layout, accumulation, link, network)
    mid = accumulation * tokens * layout.gpus / step
    return Speed(
        training=Span(mid * LOW, mid, mid * HIGH),
        forward=tokens * layout.gpus / (_overlap(forward, launch / 3) + unpack),
    )


def _passes(work: Workload, checkpointing: bool, *, backward: int | None = None) -> float:
    """Forward passes that a row's work comes to: forward, backward, recomputing, and KTO's other answers."""
    if backward is None:
        backward = WHOLE_BACKWARD if work.method in WHOLE else ADAPTER_BACKWARD
    return 1 + (backward + checkpointing) * work.differentiated + FURTHER_PASSES[work.objective]


def _fullness(work: Workload, tokens: float) -> float:
    """How much of a card's reachable rate matrix products of this size get."""
    hidden = work.architecture.hidden
    return hidden / (hidden + HALF_WIDTH) * tokens / (tokens + HALF_TOKENS)


def flops_per_token(work: Workload, *, checkpointing: bool) -> float:
    """Full: 6P, 8P with checkpointing. Adapters: 4P and 6P, as frozen weights need no gradient. Attention included."""
    return _passes(work, checkpointing) * _forward_flops(work)


@lru_cache(maxsize=512)
def _forward_flops(work: Workload) -> float:
    architecture = work.architecture
    scores = ATTENTION_COST * 2 * architecture.layers * architecture.heads * architecture.head_dim * work.typical_length
    return 2.0 * architecture.matmul_parameters + scores


def _rate(work: Workload, gpu: Gpu, stack: Calibration) -> float:
    """Operations a second that the card reaches."""
    rate = gpu.dense_tflops * 1e12 * gpu.peak_share * stack.kernels
    if work.attention == "eager":
        rate *= EAGER_SHARE
    return rate / SLOW_FP32 if work.precision == "fp32" else rate


def _launch(work: Workload, layout: Layout, stack: Calibration) -> float:
    """Seconds of host time for one forward and backward pass."""
    adapter = 0.0 if work.method in WHOLE else stack.adapter_launch * (DORA_LAUNCH if work.method == "dora" else 1)
    hooks = ZERO3_LAUNCH if layout.sharding == "zero3" else 1.0
    return work.architecture.layers * (stack.launch + adapter) * hooks


def _optimizer_seconds(work: Workload, layout: Layout, gpu: Gpu) -> float:
    """Weights, gradients and moments, each read and written once; through the host link where they are offloaded."""
    share = layout.gpus if layout.sharding not in ("none", "ddp") else 1
    each = OPTIMIZER_PASSES * (2 * (4 + 2 * MOMENT_BYTES[work.optimizer]) + 4)
    return work.trainable_parameters / share * each / (HOST_LINK if layout.offload else gpu.bandwidth)


def _communication_seconds(work: Workload, layout: Layout, accumulation: int, link: float, network: float) -> float:
    """Gradients once a step, or each micro-batch where they are sharded; sharded weights are gathered twice in each."""
    if layout.gpus == 1 and not layout.offload:
        return 0.0
    slowest = _slowest(layout, link, network)
    share = (layout.gpus - 1) / layout.gpus
    gradients = work.trainable_parameters * 4.0 * share / slowest
    gradients *= accumulation if layout.sharding in ("zero2", "zero3", "fsdp") else 2
    if layout.sharding not in ("zero3", "fsdp"):
        return gradients
    gathered = work.architecture.parameters * 2.0 if work.method == "full" else weight_bytes(work)
    if layout.offload:
        gathered_seconds = gathered / layout.gpus / HOST_LINK + gathered * share / slowest
    else:
        gathered_seconds = gathered * share / slowest
    return gradients + 2 * accumulation * gathered_seconds


def _slowest(layout: Layout, link: float, network: float) -> float:
    """Bytes a second of the narrowest way that a ring of all GPUs passes."""
    inside = link or HOST_LINK
    if layout.hosts == 1:
        return inside
    return min(inside, network or HOST_LINK)


def _overlap(one: float, other: float) -> float:
    return float((one * one + other * other) ** 0.5)
