"""What the container is told, read and checked before anything slow is imported."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from spotune.contracts.training import CONFIG_VERSION, TrainingConfig
from training_container.faults import TrainingFault
from training_container.folders import Folders
from training_container.hosts import Hosts, read_hosts


@dataclass(frozen=True, slots=True)
class Inputs:
    """The config and where its data lies. A channel that was not given, or is not asked for, is None."""

    folders: Folders
    config: TrainingConfig
    hosts: Hosts
    training: Path
    validation: Path | None
    model: Path
    champion: Path | None = None
    golden: Path | None = None


def read_inputs(folders: Folders) -> Inputs:
    """Read the config and find the channels.

    Raises:
        TrainingFault: the config is of another version or does not validate, a channel is missing, or the job has
            several hosts and a plan for one process.
    """
    config = _read_config(folders.config)
    return Inputs(
        folders=folders,
        config=config,
        hosts=read_hosts(folders.resources, config.hardware.sharding),
        training=_channel_file(folders, "training"),
        validation=_channel_file(folders, "validation") if folders.channel("validation").is_dir() else None,
        model=_model_folder(folders),
        champion=_champion_folder(folders) if config.champion is not None else None,
        golden=_channel_file(folders, "golden") if config.evaluation.golden else None,
    )


def _read_config(path: Path) -> TrainingConfig:
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise _missing_channel("config", path) from None
    except ValueError as error:
        raise TrainingFault(
            "config_unreadable",
            f"{path.name} is not JSON.",
            evidence=str(error),
            remedy="Write it again with the service that submitted this job.",
        ) from error
    version = document.get("version") if isinstance(document, dict) else None
    if version != CONFIG_VERSION:
        raise TrainingFault(
            "config_version",
            f"{path.name} has version {version!r}; this container reads version {CONFIG_VERSION}.",
            remedy="Use the container image that belongs to the service's version.",
        )
    try:
        return TrainingConfig.model_validate(document)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors(include_url=False)]
        raise TrainingFault(
            "config_invalid",
            f"{path.name} does not validate: {len(faults)} faults.",
            evidence="; ".join(faults),
            remedy="Correct the fields named in the evidence.",
        ) from error


def _channel_file(folders: Folders, name: str) -> Path:
    folder = folders.channel(name)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    if not files:
        raise _missing_channel(name, folder)
    if len(files) > 1:
        raise TrainingFault(
            "channel_ambiguous",
            f"The channel {name} has {len(files)} files; it takes one JSONL file.",
            evidence=", ".join(path.name for path in files[:5]),
            remedy="Point the channel at exactly one object.",
        )
    return files[0]


def _model_folder(folders: Folders) -> Path:
    folder = folders.channel("model")
    if not (folder / "config.json").is_file():
        raise TrainingFault(
            "model_missing",
            "The channel model holds no model.",
            evidence=f"nothing at {folder / 'config.json'}",
            remedy="Add the base model again; its folder in the models bucket is empty or was cut short.",
        )
    return folder


def _champion_folder(folders: Folders) -> Path:
    folder = folders.channel("champion")
    if not any(folder.glob("*")):
        raise _missing_channel("champion", folder)
    return folder


def _missing_channel(name: str, path: Path) -> TrainingFault:
    return TrainingFault(
        "missing_channel",
        f"The channel {name} is missing or empty.",
        evidence=f"nothing at {path}",
        remedy=f"Give the training job a channel named {name}.",
    )
