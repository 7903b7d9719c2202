"""The base model's 16-bit weights with the adapter added: each sum taken in fp32 and rounded once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from spotune.contracts.training import TrainingConfig
from training_container.device import Machine
from training_container.loading import load_base, read_facts
from training_container.methods.published import load_adapter
from training_container.publication.probe import QUANTIZED, ROUNDED, Probe


def write_merged(
    folder: Path, *, adapter: Path, base: Path, config: TrainingConfig, probe: Probe, check: Callable[[], None]
) -> Probe:
    """Write whole weights to `folder`; returns a probe that expects what they say.

    The base model is loaded again in 16 bits, never taken from what was quantized for training.

    Args:
        check: runs between layers, and may raise to leave.

    Raises:
        Mismatch: the adapter over the 16-bit base model is not what was trained.
    """
    machine = sixteen_bit(base, probe.machine)
    model = load_adapter(load_base(base, unquantized(config), machine), adapter)
    quantized = config.method == "qlora" or config.quantization != "none"
    with model.disable_adapter():
        untouched = probe.ask(model)
    bound = QUANTIZED if quantized else ROUNDED
    probe.check(model, bound, "The adapter over the 16-bit base model", untouched)
    expected = probe.expecting(probe.ask(model), untouched)
    merge(model, check).save_pretrained(folder)
    return expected


def merge(model: Any, check: Callable[[], None]) -> Any:
    """The base model of a PEFT model, its weights those of both; the adapter's layers are gone."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for layer in [module for module in model.modules() if isinstance(module, BaseTunerLayer)]:
        check()
        inner = layer.get_base_layer()
        stored = inner.weight.dtype
        inner.float()
        layer.merge(safe_merge=True)
        inner.to(stored)
    return model.unload()


def sixteen_bit(base: Path, machine: Machine) -> Machine:
    """The machine with the type of the model's own files as its precision; bf16 where that has 32 bits."""
    found = str(read_facts(base).get("dtype") or read_facts(base).get("torch_dtype"))
    return replace(machine, precision="fp16" if found.endswith("float16") and "bfloat16" not in found else "bf16")


def unquantized(config: TrainingConfig) -> TrainingConfig:
    """A config that loads the same model in the machine's 16 bits."""
    return config.with_(method="lora", quantization="none")
