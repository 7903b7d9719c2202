"""The base model, quantized or not, with its adapter."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from spotune.contracts.training import AdapterConfig, TrainingConfig
from training_container.device import Machine
from training_container.faults import TrainingFault

PICKLED_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl"})
"""Weights in these files are unpickled, which can run code of their author's; they are never opened."""


def load_base(folder: Path, config: TrainingConfig, machine: Machine) -> Any:
    """The base model on the machine's device, in evaluation mode.

    Weights have the machine's precision, NF4 with double quantization for qlora, and fp32 for full fine-tuning, where
    they are the optimizer's master copy.

    Raises:
        TrainingFault: there are no safetensors, they are damaged or incomplete, or transformers does not know the
            architecture.
    """
    _check_files(folder)
    _check_length(folder, config.data.max_sequence_length)
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    options: dict[str, Any] = {"dtype": torch.float32 if config.method == "full" else machine.dtype}
    if config.method == "qlora":
        options["quantization_config"] = _nf4(machine)
    try:
        model, loading = AutoModelForCausalLM.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            device_map={"": machine.device},
            output_loading_info=True,
            **options,
        )
    except (SafetensorError, KeyError, ValueError, ImportError) as error:
        raise TrainingFault(
            "model_unreadable",
            "The base model cannot be loaded.",
            evidence=f"{type(error).__name__}: {error}",
            remedy="Check that the folder is a causal language model saved with save_pretrained, and upload it again.",
        ) from error
    _check_complete(loading)
    if config.method == "qlora":
        _keep_weights_unpacked(model)
    return model.eval()


def adapt(model: Any, config: TrainingConfig) -> Any:
    """The model as it is trained: with an fp32 LoRA adapter over frozen weights, or itself for full fine-tuning.

    Raises:
        TrainingFault: a target module does not exist.
    """
    if config.hardware.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if config.adapter is None:
        return model.train()
    from peft import LoraConfig, get_peft_model

    adapter = LoraConfig(
        task_type="CAUSAL_LM",
        r=config.adapter.rank,
        lora_alpha=config.adapter.alpha,
        lora_dropout=config.adapter.dropout,
        target_modules=target_modules(model, config.adapter),
        bias="none",
    )
    adapted = get_peft_model(model, adapter)
    adapted.peft_config["default"].base_model_name_or_path = config.model.name
    adapted.peft_config["default"].revision = config.model.revision or None
    return adapted.train()


def target_modules(model: Any, adapter: AdapterConfig) -> list[str]:
    """Last name parts of the linear layers that carry the adapter, sorted.

    Raises:
        TrainingFault: a name that was asked for is no linear layer's; the evidence lists those that exist.
    """
    paths = _linear_layers(model)
    names = {path.rpartition(".")[2] for path in paths}
    if adapter.target_modules == "all-linear":
        return sorted(names)
    if adapter.target_modules == "attention":
        return sorted({path.rpartition(".")[2] for path in paths if "attn" in path or "attention" in path})
    unknown = [name for name in adapter.target_modules if not any(f".{path}".endswith(f".{name}") for path in paths)]
    if unknown:
        raise TrainingFault(
            "unknown_target_modules",
            f"The model has no linear layer named {', '.join(unknown)}.",
            evidence=f"it has {', '.join(sorted(names))}",
            remedy="Name layers from the evidence in adapter.target_modules, or say attention or all-linear.",
        )
    return sorted(adapter.target_modules)


def base_of(model: Any) -> AbstractContextManager[object]:
    """Inside, an adapted model answers as its base. A model without adapter is its own base until it is trained."""
    return model.disable_adapter() if hasattr(model, "disable_adapter") else nullcontext()


def trainable(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Parameters that training changes, by name, in the model's order."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def check_gradients(model: torch.nn.Module) -> None:
    """After the first backward pass: every trainable parameter has a gradient.

    A kernel that repacks its weights can cut the graph silently; training would go on and learn nothing. Experts that
    no token of the step was routed to have none by right.
    """
    expected = {name: parameter for name, parameter in trainable(model).items() if "expert" not in name}
    missing = [name for name, parameter in expected.items() if parameter.grad is None]
    if missing:
        raise RuntimeError(f"{len(missing)} trainable parameters have no gradient, the first: {missing[0]}")


def count_parameters(model: Any) -> tuple[int, int]:
    """Trainable parameters and all of them; a quantized weight counts as what it stands for."""
    count = sum(parameter.numel() for parameter in trainable(model).values())
    return count, int(model.num_parameters())


def _check_files(folder: Path) -> None:
    if any(folder.glob("*.safetensors")):
        return
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLED_SUFFIXES)
    if pickled:
        raise TrainingFault(
            "pickled_weights",
            "The base model has pickled weights only; loading them can run foreign code.",
            evidence=", ".join(pickled[:5]),
            remedy="Convert them with save_pretrained(..., safe_serialization=True) where you trust them.",
        )
    raise TrainingFault(
        "model_without_weights",
        "The base model's folder has no *.safetensors file.",
        evidence=", ".join(sorted(path.name for path in folder.iterdir())[:10]),
        remedy="Upload the model's weights as safetensors.",
    )


def _check_length(folder: Path, wanted: int) -> None:
    try:
        longest = json.loads((folder / "config.json").read_bytes()).get("max_position_embeddings")
    except ValueError as error:
        raise TrainingFault(
            "model_unreadable",
            "The base model's config.json is not JSON.",
            evidence=str(error),
            remedy="Upload the model's folder again.",
        ) from error
    if isinstance(longest, int) and wanted > longest:
        raise TrainingFault(
            "sequence_too_long",
            f"max_sequence_length is {wanted}; the base model has {longest} positions.",
            remedy=f"Set training.max_sequence_length to {longest} or less.",
        )


def _check_complete(loading: dict[str, Any]) -> None:
    missing = sorted(loading.get("missing_keys") or ())
    if missing:
        raise TrainingFault(
            "model_incomplete",
            f"{len(missing)} weights are not in the base model's files; they would be random.",
            evidence=", ".join(missing[:5]),
            remedy="Upload all of the model's *.safetensors files.",
        )


def _nf4(machine: Machine) -> Any:
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=machine.dtype,
    )


def _keep_weights_unpacked(model: torch.nn.Module) -> None:
    """On a CPU with AVX512-BF16 bitsandbytes repacks 4-bit weights at the first evaluation; then no gradient flows."""
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def _linear_layers(model: Any) -> list[str]:
    """Paths of the layers that can carry an adapter: all linear ones but the output head."""
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    return [
        path
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not head
    ]
