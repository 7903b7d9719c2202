"""The model folder: weights, tokenizer, card and report, complete before anything optional is begun."""

from __future__ import annotations

import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from spotune.contracts.training import REPORT_NAME, TrainingConfig, TrainingReport
from training_container.folders import replace_file
from training_container.methods import has_adapter
from training_container.methods.published import save_adapter
from training_container.publication.card import CARD_NAME, model_card
from training_container.publication.plot import PICTURE_NAME

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json")


def publish(model: Any, folder: Path, *, base: Path, config: TrainingConfig, report: TrainingReport) -> None:
    """Write the model folder; `report.json` comes last, after the weights were read back and compared.

    Raises:
        RuntimeError: what was written is not what was trained.
        OSError: the disk is full.
    """
    empty(folder)
    weights = _save_weights(model, folder, base, config)
    check_published(folder, weights)
    copy_tokenizer(base, folder)
    describe(folder, config, report)


def describe(folder: Path, config: TrainingConfig, report: TrainingReport) -> None:
    """Write the card and, last, the report."""
    picture = PICTURE_NAME if (folder / PICTURE_NAME).exists() else None
    replace_file(folder / CARD_NAME, model_card(config, report, picture=picture).encode())
    replace_file(folder / REPORT_NAME, report.model_dump_json(indent=1).encode())


def copy_tokenizer(base: Path, folder: Path) -> None:
    """Put the base model's tokenizer and chat template beside the weights."""
    for name in TOKENIZER_FILES:
        if (base / name).exists():
            shutil.copyfile(base / name, folder / name)


def check_published(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    """Compare every tensor in the folder's safetensors with the trained one, bit for bit.

    Raises:
        RuntimeError: they differ.
    """
    written: dict[str, torch.Tensor] = {}
    for path in folder.glob("*.safetensors"):
        written.update(load_file(path))
    # A tied tensor is written once, under one of its names.
    stored = {weights[name].data_ptr() for name in written.keys() & weights.keys()}
    wrong = [name for name, tensor in weights.items() if name not in written and tensor.data_ptr() not in stored]
    wrong += [name for name in written if name not in weights or not torch.equal(written[name], weights[name])]
    if wrong:
        raise RuntimeError(f"the published weights differ from the trained ones: {', '.join(wrong[:3])}")


def versions() -> dict[str, str]:
    """Installed versions of what the weights depend on."""
    names = ("torch", "transformers", "peft", "bitsandbytes", "spotune")
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def empty(folder: Path) -> None:
    """Leave nothing of an attempt that was cut short while it published."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _save_weights(model: Any, folder: Path, base: Path, config: TrainingConfig) -> dict[str, torch.Tensor]:
    """Save and return what must be found in the files."""
    if has_adapter(config.method):
        weights = save_adapter(model, folder, config)
        (folder / CARD_NAME).unlink(missing_ok=True)
    else:
        model.to(_stored_dtype(base))
        model.save_pretrained(folder)
        weights = model.state_dict()
    # Tied weights stay tied on their way to the CPU, so that one stored name stands for both.
    moved = {tensor.data_ptr(): tensor.detach().cpu() for tensor in weights.values()}
    return {name: moved[tensor.data_ptr()] for name, tensor in weights.items()}


def _stored_dtype(base: Path) -> torch.dtype:
    """The type of the base model's own files, in which a tuned copy is published."""
    from transformers import AutoConfig

    found = AutoConfig.from_pretrained(base, local_files_only=True).dtype
    return found if isinstance(found, torch.dtype) else torch.bfloat16
