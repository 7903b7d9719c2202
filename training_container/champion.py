"""The champion of the job's group: whether its files belong to this run, and the model that they make."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from spotune.contracts.base_model import PICKLED_SUFFIXES
from spotune.contracts.training import REPORT_NAME, TrainingConfig, TrainingReport
from training_container.device import Machine
from training_container.faults import TrainingFault
from training_container.fingerprint import fingerprint
from training_container.folders import read_if_whole
from training_container.inputs import Inputs
from training_container.loading import load_base, read_facts, spreads
from training_container.methods import has_adapter
from training_container.methods.bottleneck import KIND
from training_container.methods.published import (
    SETTINGS_NAME,
    WEIGHTS_NAME,
    begin_as,
    check_loaded,
    load_adapter,
    read_settings,
)
from training_container.model import carried
from training_container.quantization import quantization_of
from training_container.sharding.world import World

VIRTUAL_TOKENS = frozenset({"PREFIX_TUNING", "PROMPT_TUNING"})
KINDS = VIRTUAL_TOKENS | {"LORA", "IA3", KIND}
"""Adapters that the container publishes, as their settings say it."""
SHAPE = ("model_type", "hidden_size", "num_hidden_layers", "vocab_size")
"""Of `config.json`: what whole weights have to have in common with the base model's."""


@dataclass(frozen=True, slots=True)
class Champion:
    """What lies in the `champion` channel: an adapter, or a whole model. It is measured as this run computes its own
    model: over the base model in the same precision and quantization."""

    inputs: Inputs
    folder: Path
    settings: Mapping[str, Any]
    """Of the adapter; empty for a whole model."""
    report: TrainingReport | None
    """Of the run that made it, where it lies there, too."""
    sha256: str
    """Fingerprint of its weights."""

    @classmethod
    def of(cls, inputs: Inputs, base: str) -> Champion | None:
        """The run's champion, None where it has none. `base` is the fingerprint of the base model.

        Raises:
            TrainingFault: it is pickled, incomplete, or another base model's; or it cannot be measured beside the
                model that this run trains.
        """
        if inputs.champion is None:
            return None
        folder = inputs.champion
        _check_files(folder)
        settings = _settings(folder)
        report = read_if_whole(TrainingReport, folder / REPORT_NAME)
        champion = cls(inputs, folder, settings, report, fingerprint(folder))
        champion._check_base(base)
        champion._check_kind()
        champion._check_measurable()
        champion._check_start()
        return champion

    @property
    def whole(self) -> bool:
        """True where it is a model of its own, not an adapter."""
        return not self.settings

    @property
    def start(self) -> bool:
        """True where training goes on from it."""
        return self._config.champion is not None and self._config.champion.start

    @property
    def alone_in_line(self) -> bool:
        """True where rows must not lie side by side: its virtual tokens stand before a line of a batch."""
        return self.settings.get("peft_type") in VIRTUAL_TOKENS

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes it another model here than it was where it was trained."""
        own = quantization_of(self._config)
        if self.report is None or not self.report.base_sha256 or self.report.quantization == own:
            return ()  # a report that does not tell its base does not tell its quantization
        trained = f"a base model of quantization {self.report.quantization}"
        return (f"The champion was trained over {trained} and measured over one of quantization {own}.",)

    def load(self, machine: Machine) -> Any:
        """The champion on a machine, in evaluation mode.

        Raises:
            TrainingFault: its files do not make one over this base model.
        """
        if self.whole:
            return self._load_whole(machine)
        model = load_base(self.inputs.model, self._config, machine)
        try:
            adapted = load_adapter(model, self.folder)
            check_loaded(adapted, self.folder)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, KeyError, SafetensorError) as error:
            raise self._unfit(f"{type(error).__name__}: {error}") from error
        return adapted

    def begin(self, model: Any) -> None:
        """Give the model that is to be trained the champion's adapter.

        Raises:
            TrainingFault: its own is of another shape.
        """
        try:
            begin_as(model, self.folder)
        except (ValueError, KeyError, SafetensorError) as error:
            raise TrainingFault(
                "champion_of_another_shape",
                f"Training cannot go on from {self._name}: its adapter is not of the shape that is to be trained.",
                evidence=str(error),
                remedy="Set method and adapter as the champion was trained, or registry.start_from to base.",
            ) from error

    @property
    def _config(self) -> TrainingConfig:
        return self.inputs.config

    @property
    def _name(self) -> str:
        assert self._config.champion is not None
        return f"champion {self._config.champion.name}"

    def _load_whole(self, machine: Machine) -> Any:
        try:
            return load_base(self.folder, self._config, machine)
        except TrainingFault as fault:
            raise self._unfit(f"{fault.message} {fault.evidence}") from fault

    def _check_base(self, base: str) -> None:
        written = self.report.base_sha256 if self.report is not None else ""
        if written not in ("", base):
            raise TrainingFault(
                "champion_of_another_base",
                f"The {self._name} was trained over another base model than this run's.",
                evidence=f"fingerprint of the base model's weights: {written[:16]} -> {base[:16]}",
                remedy="Train over the champion's base model, or in a group of its own.",
            )
        if not self.whole:
            return
        own, theirs = ([read_facts(folder).get(name) for name in SHAPE] for folder in (self.inputs.model, self.folder))
        if own != theirs:
            raise self._unfit(f"{', '.join(SHAPE)}: {theirs} -> {own}")

    def _check_kind(self) -> None:
        kind = self.settings.get("peft_type")
        if kind is not None and kind not in KINDS:
            raise self._unfit(f"an adapter of type {kind}, which this container does not train")

    def _check_measurable(self) -> None:
        """Refuse what cannot be computed as this run computes its own model."""
        if spreads(self._config) and self.alone_in_line:
            raise TrainingFault(
                "champion_not_sharded",
                f"The {self._name} has weights outside of the model's blocks, which are not spread over ranks.",
                evidence=f"{self.settings['peft_type']} under {self._config.hardware.sharding}",
                remedy="Plan with none, ddp, zero1 or zero2, or train in a group of its own.",
            )
        if quantization_of(self._config) == "int8" and self.settings.get("use_dora"):
            raise TrainingFault(
                "champion_over_int8",
                f"The {self._name} is a DoRA adapter, which PEFT does not compute over a base model in int8.",
                remedy="Set adapter.quantization to nf4 or none.",
            )

    def _check_start(self) -> None:
        """Refuse a champion that was trained by another method, before anything is loaded."""
        own = self._config.method
        made_by = self.report.method if self.report is not None else None
        same = made_by == own if made_by is not None else self.whole != has_adapter(own)
        if self.start and not same:
            raise TrainingFault(
                "champion_of_another_method",
                f"Training by {own} cannot go on from {self._name}.",
                evidence=f"it is {made_by or ('a whole model' if self.whole else 'an adapter')}",
                remedy="Set method as the champion was trained, or registry.start_from to base.",
            )

    def _unfit(self, evidence: str) -> TrainingFault:
        return TrainingFault(
            "champion_unfit",
            f"The {self._name} does not fit this run's base model.",
            evidence=evidence,
            remedy="Train over the champion's base model, or in a group of its own.",
        )


def check_equal(model: torch.nn.Module, world: World) -> None:
    """All ranks are about to train the same weights: each has read them from its own host's files.

    Raises:
        RuntimeError: they are not the same.
    """
    digests = world.gather(_digest(model) if world.size > 1 else "")
    if len(set(digests)) > 1:
        others = [rank for rank, digest in enumerate(digests) if digest != digests[0]]
        raise RuntimeError(f"rank {others[0]} would begin with other weights than the first rank")


def _digest(model: torch.nn.Module) -> str:
    """Of what is trained: the sum of each tensor's bits, which every device adds up alike."""
    total = hashlib.sha256()
    for name, tensor in carried(model).items():
        bits = tensor.detach().contiguous().view(_WHOLE_NUMBERS[tensor.element_size()])
        total.update(f"{name} {tuple(tensor.shape)} {int(bits.sum(dtype=torch.int64))}\n".encode())
    return total.hexdigest()


_WHOLE_NUMBERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / SETTINGS_NAME
    try:
        return read_settings(folder) if path.is_file() else {}
    except ValueError as error:
        raise _incomplete(f"{path.name} is not JSON: {error}") from error


def _check_files(folder: Path) -> None:
    """An adapter's two files, or a model's."""
    adapter = (folder / SETTINGS_NAME).is_file()
    wanted = WEIGHTS_NAME if adapter else "*.safetensors"
    if any(folder.glob(wanted)) and (adapter or (folder / "config.json").is_file()):
        return
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLED_SUFFIXES)
    if pickled:
        raise TrainingFault(
            "pickled_champion",
            "The champion has pickled weights; loading them can run foreign code.",
            evidence=", ".join(pickled[:5]),
            remedy="Publish it again as safetensors where you trust it, or roll back to a version that is.",
        )
    raise _incomplete(", ".join(sorted(path.name for path in folder.iterdir())[:10]))


def _incomplete(evidence: str) -> TrainingFault:
    return TrainingFault(
        "champion_incomplete",
        "The channel champion holds neither a whole adapter nor a model.",
        evidence=evidence,
        remedy="Check that the champion's files are still where its version says, or roll back to another version.",
    )
