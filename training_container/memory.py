"""Memory: what a step needs of a GPU's, tried before it is trained with; and giving it back."""

from __future__ import annotations

import gc

import torch


def probed(device: torch.device) -> bool:
    """True where a probe is worth its step: where memory ends with an error.

    On a CPU the system kills the process, or swaps; a probe could tell nobody, and would cost a demo its seconds.
    """
    return device.type == "cuda"


def idle_step(optimizer: torch.optim.Optimizer) -> None:
    """Let an optimizer allocate whatever it allocates, and change no parameter: all gradients and rates are zero."""
    for group in optimizer.param_groups:
        group["lr"] = 0.0
        for parameter in group["params"]:
            if parameter.grad is not None:
                parameter.grad.zero_()
    optimizer.step()


def forget() -> None:
    """Give back the memory of models that nothing refers to."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
