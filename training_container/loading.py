"""The base model's files, checked and loaded once, straight to the device."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from spotune.contracts.base_model import PICKLED_SUFFIXES
from spotune.contracts.training import TrainingConfig
from training_container.device import Machine
from training_container.faults import TrainingFault
from training_container.quantization import check_quantized, loading_options, quantization_of

TRUSTED_CODE = "SPOTUNE_TRUSTED_CODE"
"""Environment variable of the image, for its administrator: SHA-256 sums, by commas, of model folders' Python code that
may run. The code is named by its content, so that no name that a request chooses can stand for another's."""


def load_base(folder: Path, config: TrainingConfig, machine: Machine) -> Any:
    """The base model on the machine's device, in evaluation mode.

    Weights have the machine's precision, or are quantized; under full fine-tuning they have fp32, where they are the
    optimizer's master copy. The files are mapped, not read: each tensor goes to the device by itself, in its place
    in a model that was made without memory, so the host never holds the whole of it where the device is a GPU.

    Raises:
        TrainingFault: there are no safetensors, they are damaged or incomplete, transformers does not know the
            architecture, or its code is not trusted.
    """
    _check_files(folder)
    facts = read_facts(folder)
    _check_length(facts, config.data.max_sequence_length)
    quantization = quantization_of(config)
    dtype = torch.float32 if config.method == "full" else machine.dtype
    sharded = config.hardware.sharding in ("zero3", "fsdp")
    model = _load(
        folder,
        trust_remote_code=needs_code(folder, facts),
        device_map={"": machine.device},
        dtype=dtype,
        **loading_options(quantization, machine, sharded=sharded),
    )
    check_quantized(model, quantization)
    return model.eval()


def loading_machine(config: TrainingConfig, machine: Machine) -> Machine:
    """Weights that are to be spread wait in host memory: whole they may not fit on one GPU. Quantizing needs one."""
    return replace(machine, device=torch.device("cpu")) if spreads(config) else machine


def spreads(config: TrainingConfig) -> bool:
    """True where each rank holds a part of the weights, and none has to hold all of them on its way there."""
    return config.hardware.sharding in ("zero3", "fsdp") and quantization_of(config) == "none"


def read_facts(folder: Path) -> dict[str, Any]:
    """The model's `config.json`.

    Raises:
        TrainingFault: it is missing or no JSON object.
    """
    try:
        facts = json.loads((folder / "config.json").read_bytes())
    except (ValueError, FileNotFoundError) as error:
        raise _unreadable(f"config.json: {error}") from error
    if not isinstance(facts, dict):
        raise _unreadable("config.json is not an object")
    return facts


def needs_code(folder: Path, facts: dict[str, Any]) -> bool:
    """True where the model is built by Python code of its own folder, which the administrator trusts.

    A family that transformers has is built by transformers, whatever code lies beside it.

    Raises:
        TrainingFault: the code is needed and not trusted.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    if not facts.get("auto_map") or facts.get("model_type") in CONFIG_MAPPING_NAMES:
        return False
    found = _code_sum(folder)
    if found is not None and found in os.environ.get(TRUSTED_CODE, "").replace(" ", "").split(","):
        return True
    raise TrainingFault(
        "model_code_not_trusted",
        f"The model's family {facts.get('model_type')!r} is not in transformers; its own code would have to run.",
        evidence=f"SHA-256 of its code: {found}" if found else "its code lies in another repository",
        remedy=f"Take a family that transformers has, or let an administrator read the code and set {TRUSTED_CODE} to "
        "its SHA-256 in the training image.",
    )


def _code_sum(folder: Path) -> str | None:
    """Of all Python files by name; None where the config's `auto_map` points outside the folder."""
    if "--" in json.dumps(read_facts(folder)["auto_map"]):
        return None
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        total.update(str(path.relative_to(folder)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _load(folder: Path, **options: Any) -> Any:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model, loading = AutoModelForCausalLM.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are in the loading info, which says which
            **options,
        )
    except (SafetensorError, KeyError, ValueError, ImportError) as error:
        raise _unreadable(f"{type(error).__name__}: {error}") from error
    _check_complete(loading)
    return model


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


def _check_length(facts: dict[str, Any], wanted: int) -> None:
    longest = facts.get("max_position_embeddings")
    if isinstance(longest, int) and wanted > longest:
        raise TrainingFault(
            "sequence_too_long",
            f"max_sequence_length is {wanted}; the base model has {longest} positions.",
            remedy=f"Set training.max_sequence_length to {longest} or less.",
        )


def _check_complete(loading: dict[str, Any]) -> None:
    """Transformers draws at random what it does not find, or finds in another shape."""
    missing = sorted(loading.get("missing_keys") or ())
    odd = sorted(str(key[0] if isinstance(key, tuple) else key) for key in loading.get("mismatched_keys") or ())
    if missing or odd:
        raise TrainingFault(
            "model_incomplete",
            f"{len(missing) + len(odd)} weights are not in the base model's files, or of another shape than its "
            "config.json says; they would be random.",
            evidence=", ".join((missing + odd)[:5]),
            remedy="Upload all of the model's *.safetensors files with the config.json that belongs to them.",
        )


def _unreadable(evidence: str) -> TrainingFault:
    return TrainingFault(
        "model_unreadable",
        "The base model cannot be loaded.",
        evidence=evidence,
        remedy="Check that the folder is a causal language model saved with save_pretrained, and upload it again.",
    )
