"""The machine that was found: device, precision, memory."""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from spotune.contracts.plan import Precision
from spotune.contracts.training import HardwareConfig
from training_container.faults import TooLarge, out_of_memory

T = TypeVar("T")

CPU_MICRO_BATCH_TOKENS = 512
"""On a CPU larger micro-batches are no faster and only cost memory (SmolLM2-135M: about 0.8 MB a token)."""

DTYPES: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and in which precision the model is computed."""

    device: torch.device
    name: str
    precision: Precision
    warnings: tuple[str, ...] = ()
    halvings: int = 0
    """How often the processes of this job were started again because one of them ran out of memory."""

    @property
    def dtype(self) -> torch.dtype:
        """The type of the activations."""
        return DTYPES[self.precision]

    def autocast(self) -> AbstractContextManager[object]:
        """Matrix products in the machine's precision, whatever type the weights have."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def peak_memory(self) -> int:
        """Bytes at the highest point so far: reserved on the GPU, or resident in this process on a CPU."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_reserved(self.device)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024

    def micro_batch(self, planned: int, tokens: int) -> int:
        """The planned number of sequences of `tokens` tokens a forward pass; fewer where this is a CPU."""
        if self.device.type == "cuda":
            return self.halved(planned)
        return max(1, min(self.halved(planned), CPU_MICRO_BATCH_TOKENS // tokens))

    def halved(self, lines: int) -> int:
        """As many lines a forward pass as are left of these after all halvings."""
        return max(1, lines >> self.halvings)


def find_machine(hardware: HardwareConfig, *, number: int = 0, halvings: int = 0) -> Machine:
    """The host's GPU of this number if it has any, else the CPU, in the planned precision where the machine has it."""
    found = _found(hardware, number)
    if not halvings:
        return found
    warning = f"A process ran out of memory: the planned micro-batch was halved {halvings} times for all of them."
    return replace(found, halvings=halvings, warnings=(*found.warnings, warning))


def _found(hardware: HardwareConfig, number: int) -> Machine:
    if not torch.cuda.is_available():
        name = str(torch.cpu.get_capabilities().get("cpu_name", "cpu"))
        return _with_precision(torch.device("cpu"), name, hardware, _cpu_precisions())
    device = torch.device("cuda", number)
    return _with_precision(device, torch.cuda.get_device_name(device), hardware, _gpu_precisions(device))


@contextlib.contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """No gradients and no dropout inside; training mode again after it."""
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train()


def fitting(size: int, work: Callable[[int], T], *, alone: bool = True) -> tuple[T, int]:
    """`work(size)`, begun again with half the size where the GPU's memory ends; returns its result and the size.

    Raises:
        TrainingFault: it does not fit with size 1.
        TooLarge: it does not fit, and other ranks are in the middle of it, so that all have to begin again.
    """
    while True:
        try:
            return work(size), size
        except torch.OutOfMemoryError as error:
            reason = str(error)
        # Outside the handler: the exception holds the frames, and so the memory, of the work that failed.
        if size == 1:
            raise out_of_memory(reason)
        if not alone:
            raise TooLarge(reason)
        torch.cuda.empty_cache()
        size //= 2


def _cpu_precisions() -> tuple[Precision, ...]:
    """Without the instructions for bf16 a CPU emulates it, far slower than fp32."""
    capabilities = torch.cpu.get_capabilities()
    fast = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return ("bf16", "fp32") if fast else ("fp32",)


def _gpu_precisions(device: torch.device) -> tuple[Precision, ...]:
    """bf16 needs compute capability 8.0 (Ampere); T4 and V100 have fp16 only."""
    return ("bf16", "fp16", "fp32") if torch.cuda.get_device_capability(device) >= (8, 0) else ("fp16", "fp32")


def _with_precision(
    device: torch.device, name: str, hardware: HardwareConfig, available: tuple[Precision, ...]
) -> Machine:
    wanted = hardware.precision
    if wanted == "auto" or wanted in available:
        return Machine(device, name, available[0] if wanted == "auto" else wanted)
    warning = f"{name} does not compute in {wanted}; {available[0]} was used."
    return Machine(device, name, available[0], (warning,))
