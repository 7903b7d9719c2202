"""How fast a GPU trains: arithmetic at a share of the card's peak, launches, and the unpacking of 4-bit weights."""

from __future__ import annotations

from dataclasses import dataclass

from spotune.contracts.base import Interval
from spotune.planner.catalog import Gpu
from spotune.planner.workload import Layout, Workload

LAUNCH_SECONDS = {"full": 0.002, "lora": 0.003, "qlora": 0.003}
"""Host time of one block's forward and backward: small batches wait for it (published runs of 256 tokens a pass)."""

RECOMPUTE_LAUNCH = 4 / 3
"""A second forward pass joins one forward and one backward, which counts double."""

UNPACK_BYTES = 8
"""Memory traffic a 4-bit weight and pass: read, write in 16 bit, read again by the product."""

_LOW, _HIGH = 0.65, 1.35
"""The interval about the mid speed. The published runs differ by as much with kernels and versions alone."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens a second of one GPU: in training, and in a forward pass alone."""

    training: Interval
    forward: float


def estimate_speed(work: Workload, layout: Layout, gpu: Gpu) -> Speed:
    """Tokens a second of one GPU.

    Arithmetic and launches overlap, so that a step takes the root of the sum of their squares; unpacking adds to it.
    """
    tokens = layout.micro_batch * work.typical_length
    rate = gpu.dense_tflops * 1e12 * gpu.peak_share
    launch = LAUNCH_SECONDS[work.method] * work.architecture.layers * (RECOMPUTE_LAUNCH if layout.checkpointing else 1)
    passes = 3 if layout.checkpointing else 2
    step = _overlap(flops_per_token(work, checkpointing=layout.checkpointing) * tokens / rate, launch)
    forward = _overlap(_forward_flops(work) * tokens / rate, launch / 3)
    mid = tokens / (step + passes * _unpack_seconds(work, gpu))
    return Speed(
        training=Interval(low=mid * _LOW, mid=mid, high=mid * _HIGH),
        forward=tokens / (forward + _unpack_seconds(work, gpu)),
    )


def flops_per_token(work: Workload, *, checkpointing: bool) -> float:
    """Full: 6P, 8P with checkpointing. Adapters: 4P and 6P, as frozen weights need no gradient. Attention included."""
    passes = (3 if work.method == "full" else 2) + (1 if checkpointing else 0)
    return passes * _forward_flops(work)


def _forward_flops(work: Workload) -> float:
    architecture = work.architecture
    scores = 2 * architecture.layers * architecture.heads * architecture.head_dim * work.typical_length
    return 2.0 * architecture.matmul_parameters + scores


def _unpack_seconds(work: Workload, gpu: Gpu) -> float:
    if work.method != "qlora":
        return 0.0
    return (work.architecture.attention + work.architecture.mlp) * UNPACK_BYTES / gpu.bandwidth


def _overlap(arithmetic: float, launch: float) -> float:
    return float((arithmetic**2 + launch**2) ** 0.5)
