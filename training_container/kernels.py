"""What makes a loaded model faster on the machine that was found, and proof that it was done and changed nothing."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import torch

from training_container.device import Machine, evaluating
from training_container.projection import chunk_projection

MARK = "Liger"
"""What the names of modules begin with that Liger has patched."""
ROUNDING = 0.05
"""Other kernels round otherwise: they may move logits by less than this share of the logits' deviation."""


def speed_up(model: Any, machine: Machine) -> Machine:
    """The loss in chunks where the model allows it, and on a GPU Liger's kernels; the machine with what was missed.

    `torch.compile` is not used: packed lines have a new shape in most steps, each of which would be compiled anew, and
    it breaks its graphs at quantized layers and at the hooks that sharding lives by.
    """
    chunk_projection(model)
    missed = apply_liger(model, machine) if machine.device.type == "cuda" else None
    return replace(machine, warnings=(*machine.warnings, f"Liger was not applied: {missed}.")) if missed else machine


def apply_liger(model: Any, machine: Machine) -> str | None:
    """Patch norms and gated layers of this one model; returns why it was not done, and the model is as before then."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    before = _logits(model, machine)
    own = {module: dict(vars(module)) for module in base.modules()}
    try:
        missed = _patch(base) or _moved(before, _logits(model, machine))
    except Exception as error:  # whatever the library, its compiler or the GPU find; training goes on without
        missed = f"{type(error).__name__}: {error}"
    if missed:
        for module, attributes in own.items():
            vars(module).clear()
            vars(module).update(attributes)
    return missed


def _patch(base: Any) -> str | None:
    from liger_kernel.transformers import _apply_liger_kernel_to_instance

    # Liger also puts its classes into transformers' module, for models to come; one may come to a CPU, where they fail.
    family = vars(sys.modules[type(base).__module__])
    shared = dict(family)
    try:
        _apply_liger_kernel_to_instance(model=base, rope=False, cross_entropy=False, fused_linear_cross_entropy=False)
    finally:
        family.update(shared)
    patched = any(module._get_name().startswith(MARK) for module in base.modules())
    return None if patched else f"it has no kernels for {type(base).__name__}"


def _moved(before: torch.Tensor, after: torch.Tensor) -> str | None:
    moved = float((after - before).abs().max() / before.std())
    return None if moved < ROUNDING else f"its kernels moved this model's logits by {moved:.2g} deviations"


def _logits(model: Any, machine: Machine) -> torch.Tensor:
    ids = torch.arange(16, device=machine.device)[None]
    with evaluating(model), machine.autocast():
        logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits.float()
    return logits
