"""The constants that no formula gives: fitted on published measurements by `python -m benchmarks.planner --fit`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Calibration:
    """How one training stack differs from the bare formulas. docs/planning.md has the formulas."""

    activations: float
    """Saved activations, as a multiple of what the formula counts."""
    quantized_activations: float
    """The same with quantized weights."""
    logits: float
    """Bytes a token and vocabulary entry."""
    overhead: float
    """Bytes that the allocator holds beyond what is counted, whatever the size of the step."""
    kernels: float
    """Speed of the stack's kernels, as a multiple of the GPU's share of its peak."""
    launch: float
    """Seconds of host time to launch one block's forward and backward pass."""
    adapter_launch: float
    """Seconds more a block where adapters are trained."""
    communication: float
    """Share of the communication that computing does not hide."""


@cache
def our_calibration() -> Calibration:
    """The container's own stack: transformers and PEFT."""
    return Calibration(**json.loads(Path(__file__).with_name("data").joinpath("calibration.json").read_bytes()))
