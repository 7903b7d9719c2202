"""The frozen base model in 4 or 8 bits, by bitsandbytes."""

from __future__ import annotations

from typing import Any

import torch

from spotune.contracts.request import Method, Quantization
from spotune.contracts.training import TrainingConfig
from training_container.device import Machine
from training_container.faults import TrainingFault

WHOLE_WEIGHTS: frozenset[Method] = frozenset({"full", "freeze"})
"""Methods that change the base model's own weights, which therefore stay in 16 or 32 bits."""


def quantization_of(config: TrainingConfig) -> Quantization:
    """How the base model is loaded: QLoRA is LoRA over NF4 where its config names no other type.

    Raises:
        TrainingFault: the method changes the weights that were to be quantized, or cannot read them.
    """
    asked = config.quantization
    if config.method == "qlora" and asked == "none":
        return "nf4"
    if config.method == "dora" and asked == "int8":
        raise TrainingFault(
            "dora_over_int8",
            "DoRA cannot be trained over an int8 base model: PEFT and bitsandbytes lose the weights' scales.",
            remedy="Choose nf4, or lora over int8.",
        )
    if asked != "none" and config.method in WHOLE_WEIGHTS:
        raise TrainingFault(
            "quantized_weights_not_trained",
            f"{config.method} changes the base model's own weights; in {asked} they cannot be changed.",
            remedy="Leave adapter.quantization at none, or choose an adapter such as qlora.",
        )
    return asked


def loading_options(quantization: Quantization, machine: Machine, *, sharded: bool = False) -> dict[str, Any]:
    """What `from_pretrained` is told. `sharded`: parameters are spread over GPUs, which moves floats only."""
    if quantization == "none":
        return {}
    from transformers import BitsAndBytesConfig

    if quantization == "int8":
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=quantization,
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=machine.dtype,
            bnb_4bit_quant_storage=machine.dtype if sharded else torch.uint8,
        )
    }


def check_quantized(model: torch.nn.Module, quantization: Quantization) -> None:
    """The linear layers are what was asked for, and keep their gradients through an evaluation.

    On a CPU with AVX512-BF16 bitsandbytes repacks 4-bit weights at the first evaluation; then no gradient flows. The
    repacking is switched off here.

    Raises:
        RuntimeError: no layer was quantized as asked, or one is packed already.
    """
    if quantization == "none":
        return
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    kind = Linear8bitLt if quantization == "int8" else Linear4bit
    layers = [module for module in model.modules() if isinstance(module, kind)]
    if not layers:
        raise RuntimeError(f"{quantization} was asked for, but the model has no {kind.__name__} layer")
    for layer in layers if kind is Linear4bit else ():
        _check_state(layer, quantization)
        layer.support_avx512bf16_for_cpu = False


def check_unpacked(model: torch.nn.Module) -> None:
    """No 4-bit layer has been repacked for inference since it was loaded.

    Raises:
        RuntimeError: one has; training would go on without gradients.
    """
    packed = [
        name
        for name, module in model.named_modules()
        if getattr(getattr(getattr(module, "weight", None), "quant_state", None), "packing_format_for_cpu", False)
    ]
    if packed:
        raise RuntimeError(f"{len(packed)} 4-bit layers were repacked for inference, the first: {packed[0]}")


def _check_state(layer: Any, quantization: Quantization) -> None:
    state = layer.weight.quant_state
    if state is None or state.quant_type != quantization or not state.nested:
        raise RuntimeError(f"a layer is not in {quantization} with double quantization: {state}")
