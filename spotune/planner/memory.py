"""What a training run needs on one GPU, by part, in bytes.

The constants are derived from published measurements (docs/planning.md has the table); the 95 % value covers the
allocator's fragmentation and what a formula leaves out.
"""

from __future__ import annotations

from spotune.contracts.plan import MemoryEstimate
from spotune.contracts.request import Method
from spotune.planner.architecture import Architecture
from spotune.planner.workload import Layout, Workload

BYTES_BF16 = 2
BYTES_FP32 = 4
BYTES_NF4 = 0.5 + 0.127 / 8
"""Four bits and, with double quantization, 0.127 bit of scales (the QLoRA paper)."""

OPTIMIZER_BYTES = {"adamw": 8, "paged_adamw_8bit": 2}
"""Two moments a trainable parameter: fp32, or 8 bit."""

LOGIT_BYTES = 12
"""A token and vocabulary entry: logits in 16 bit, their fp32 copy, and gradients of both."""

_SOFTCAP_LOGIT_BYTES, _SOFTCAP_SCORE_BYTES = 6, 14
"""More a logit, and in all an attention score: with a soft cap attention is not fused and keeps every step."""

CONTEXT_BYTES = 700 * 1024**2
"""CUDA context, cuBLAS work space and what the allocator holds from the start."""

_GATED_HIDDEN, _GATED_INNER = 20.0, 8.5
"""Activation bytes a token and block: 42 to 45 x hidden for SwiGLU at an inner size of 2.7 x hidden."""
_CLASSIC_HIDDEN, _CLASSIC_INNER = 10.0, 4.0
"""26 x hidden for GELU at an inner size of 4 x hidden."""

_DYNAMIC_MARGIN, _STATIC_MARGIN, _FIXED_MARGIN = 0.25, 0.03, 512 * 1024**2


def estimate_memory(work: Workload, layout: Layout, *, usable: int) -> MemoryEstimate:
    """Peak bytes on one GPU that holds the whole model.

    Args:
        usable: what the card offers, passed through.
    """
    tokens = layout.micro_batch * work.sequence_length
    trainable = work.trainable_parameters
    static = {
        "weights": weight_bytes(work.architecture, work.method),
        "adapters": 0 if work.method == "full" else trainable * BYTES_FP32,
        "gradients": trainable * BYTES_FP32,
        "optimizer": trainable * OPTIMIZER_BYTES[work.optimizer],
    }
    dynamic = {
        "activations": tokens * _activation_bytes_per_token(work, checkpointing=layout.checkpointing),
        "logits": tokens * work.architecture.vocabulary * _logit_bytes(work.architecture),
    }
    parts = {**static, **dynamic, "context": CONTEXT_BYTES}
    mid = sum(parts.values())
    margin = _DYNAMIC_MARGIN * sum(dynamic.values()) + _STATIC_MARGIN * sum(static.values()) + _FIXED_MARGIN
    return MemoryEstimate(parts=parts, mid=mid, p95=mid + round(margin), usable=usable)


def weight_bytes(architecture: Architecture, method: Method) -> int:
    """The base model in GPU memory: 16 bit for LoRA, NF4 in the blocks for QLoRA.

    Full training holds fp32 weights and, through autocast, their 16-bit copies.
    """
    if method == "full":
        return architecture.parameters * (BYTES_FP32 + BYTES_BF16)
    if method == "lora":
        return architecture.parameters * BYTES_BF16
    quantized = architecture.attention + architecture.mlp
    return round(quantized * BYTES_NF4) + (architecture.parameters - quantized) * BYTES_BF16


def _logit_bytes(architecture: Architecture) -> int:
    return LOGIT_BYTES + (_SOFTCAP_LOGIT_BYTES if architecture.softcapped else 0)


def _activation_bytes_per_token(work: Workload, *, checkpointing: bool) -> int:
    architecture = work.architecture
    hidden, inner = (_GATED_HIDDEN, _GATED_INNER) if architecture.gated else (_CLASSIC_HIDDEN, _CLASSIC_INNER)
    block = round(hidden * architecture.hidden + inner * architecture.intermediate)
    if architecture.softcapped:
        block += architecture.heads * work.sequence_length * _SOFTCAP_SCORE_BYTES
    if checkpointing:
        return BYTES_BF16 * architecture.hidden * architecture.layers + block
    return block * architecture.layers
