"""A published adapter: how it is written, loaded again, and gone on from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from spotune.contracts.training import TrainingConfig
from training_container.methods import bottleneck, pissa, virtual_tokens

SETTINGS_NAME = bottleneck.CONFIG_NAME
WEIGHTS_NAME = bottleneck.WEIGHTS_NAME
"""As PEFT names them."""
SCALES = ("peft_type", "r", "lora_alpha", "use_rslora", "use_dora", "inner")
"""Settings with which equal weights make another model."""


def published_weights(model: Any) -> dict[str, torch.Tensor]:
    """The adapter's weights as they work on the untouched base model, by their names in its file."""
    if any(True for _ in bottleneck.bottlenecks(model)):
        return bottleneck.weights_of(model)
    from peft import get_peft_model_state_dict

    weights: dict[str, torch.Tensor] = get_peft_model_state_dict(model, save_embedding_layers=False)
    return pissa.difference(model, weights) if pissa.has_first_factors(model) else weights


def save_adapter(model: Any, folder: Path, config: TrainingConfig) -> dict[str, torch.Tensor]:
    """Write the adapter as it works on the untouched base model; returns its weights by their names in the file."""
    weights = published_weights(model)
    if config.method == "bottleneck":
        bottleneck.save_bottlenecks(model, folder, config, weights)
    elif config.method == "pissa":
        pissa.save_difference(model, folder, weights)
    else:
        model.save_pretrained(folder, save_embedding_layers=False)
    return weights


def load_adapter(model: Any, folder: Path) -> Any:
    """A base model with a published adapter, in evaluation mode."""
    kind = read_settings(folder)["peft_type"]
    if kind == bottleneck.KIND:
        return bottleneck.load_bottlenecks(model, folder).eval()
    from peft import PeftModel

    adapted = PeftModel.from_pretrained(model, folder)
    if kind == "PROMPT_TUNING":
        virtual_tokens.count_from_the_words(adapted)
    return adapted.eval()


def begin_as(model: Any, folder: Path) -> None:
    """Give the adapter that is to be trained the weights of a published one, bit for bit.

    PiSSA's file has the factors of the beginning beside those of the end, so that both are known again.

    Raises:
        ValueError: the published one is of another shape or scale, and makes another model; says what differs.
    """
    saved = load_file(folder / WEIGHTS_NAME)
    _check_same(_shapes(published_weights(model)) | _scales(_settings(model)), _shapes(saved) | _scales_of(folder))
    if any(True for _ in bottleneck.bottlenecks(model)):
        model.load_state_dict(saved, strict=False)
    elif pissa.has_first_factors(model):
        pissa.go_on_from(model, saved)
    else:
        from peft import set_peft_model_state_dict

        set_peft_model_state_dict(model, saved)
    check_loaded(model, folder)


def check_loaded(model: Any, folder: Path) -> None:
    """The model's adapter is the folder's, tensor by tensor; PEFT only warns of what it does not find.

    Raises:
        ValueError: says what is missing or another.
    """
    own, saved = published_weights(model), load_file(folder / WEIGHTS_NAME)
    _check_same(_shapes(own), _shapes(saved))
    wrong = [name for name, tensor in saved.items() if not torch.equal(own[name].detach().cpu().to(tensor), tensor)]
    if wrong:
        raise ValueError(f"{len(wrong)} of its weights were not loaded, the first: {wrong[0]}")


def read_settings(folder: Path) -> dict[str, Any]:
    """The adapter's `adapter_config.json`."""
    settings: dict[str, Any] = json.loads((folder / SETTINGS_NAME).read_bytes())
    return settings


def _settings(model: Any) -> Mapping[str, Any]:
    """What `adapter_config.json` would say of the model's own adapter."""
    if any(True for _ in bottleneck.bottlenecks(model)):
        return bottleneck.settings_of(model)
    settings = pissa.doubled_settings(model) if pissa.has_first_factors(model) else model.peft_config["default"]
    return dict(settings.to_dict())


def _scales_of(folder: Path) -> dict[str, object]:
    return _scales(read_settings(folder))


def _scales(settings: Mapping[str, Any]) -> dict[str, object]:
    return {name: getattr(settings[name], "value", settings[name]) for name in SCALES if settings.get(name) is not None}


def _shapes(weights: Mapping[str, torch.Tensor]) -> dict[str, object]:
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}


def _check_same(own: Mapping[str, object], saved: Mapping[str, object]) -> None:
    names = [name for name in (*saved, *(own.keys() - saved.keys())) if own.get(name) != saved.get(name)]
    if names:
        said = [f"{name}: {_or_none(saved, name)} -> {_or_none(own, name)}" for name in names[:3]]
        raise ValueError(f"{len(names)} differ: {'; '.join(said)}")


def _or_none(values: Mapping[str, object], name: str) -> object:
    return values.get(name, "not there")
