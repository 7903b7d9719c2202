"""SageMaker's folders under `/opt/ml`, and how a file in them is replaced."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from spotune.contracts.base import Contract
from spotune.contracts.training import CONFIG_NAME, PROGRESS_NAME

C = TypeVar("C", bound=Contract)

DEFAULT_ROOT = "/opt/ml"


@dataclass(frozen=True, slots=True)
class Folders:
    """Where the container reads and writes, all below `root`."""

    root: Path

    @classmethod
    def from_environment(cls) -> Folders:
        """`SPOTUNE_ML_ROOT`, else SageMaker's own `/opt/ml`."""
        return cls(Path(os.environ.get("SPOTUNE_ML_ROOT", DEFAULT_ROOT)))

    @property
    def config(self) -> Path:
        """The file that says what to do."""
        return self.channel("config") / CONFIG_NAME

    @property
    def resources(self) -> Path:
        """SageMaker's description of the hosts."""
        return self.root / "input" / "config" / "resourceconfig.json"

    @property
    def checkpoints(self) -> Path:
        """The folder that is synced with S3 both ways."""
        return self.root / "checkpoints"

    @property
    def progress(self) -> Path:
        """How far the run is."""
        return self.checkpoints / PROGRESS_NAME

    @property
    def model(self) -> Path:
        """What is published."""
        return self.root / "model"

    @property
    def scratch(self) -> Path:
        """Where an output is made and read back before it is moved to `model`; carried nowhere."""
        return self.root / "scratch"

    @property
    def failure(self) -> Path:
        """The typed failure, where there is one."""
        return self.root / "output" / "failure"

    def channel(self, name: str) -> Path:
        """An input channel's folder; it need not exist."""
        return self.root / "input" / "data" / name


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that readers, and a crash at any moment, see the old content or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_if_whole(contract: type[C], path: Path) -> C | None:
    """A file that only informs: None where it is missing or damaged, since a run can go on without it."""
    try:
        return contract.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def sync(path: Path) -> None:
    """Make a file's content, or the names in a folder, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
