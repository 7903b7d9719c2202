"""Checkpoints: written under another name, manifest last, renamed; what does not verify does not exist.

checkpoints/checkpoint-<step>/weights.safetensors   what is trained
                              optimizer.pt          the optimizer's state
                              state.json            where the run was
                              manifest.json         name, size and sha256 of the three
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from spotune.contracts.base import Contract
from spotune.contracts.training import MANIFEST_NAME, Manifest, ManifestFile, TrainingConfig
from training_container.faults import TrainingFault
from training_container.folders import replace_file, sync

STATE_NAME = "state.json"
_PREFIX = "checkpoint-"
_PARTIAL = ".partial-"
_RESUME_FIELDS = frozenset({"version", "job_id", "seed", "model", "method", "adapter", "data", "optimization"})


class RunState(Contract):
    """Where a run is. Together with weights and optimizer it is all that a resume needs: the order of the data and
    the dropout of a step follow from seed and step."""

    step: int = 0
    tokens_seen: int = 0
    train_seconds: float = 0.0
    evaluated_step: int = -1
    """The last step whose held-out loss is known; -1 for none."""
    eval_loss: float | None = None
    """At `evaluated_step`."""
    best_step: int | None = None
    """Where the lowest held-out loss so far was; None before the first evaluation."""
    train_loss: float | None = None
    peak_memory_bytes: int = 0
    loss_scale: dict[str, float] = {}
    """Of fp16's gradient scaler; empty in other precisions."""


class Identity(Contract):
    """What a resume must agree with: the config without hardware, limits, checkpointing and evaluation; the data."""

    config: dict[str, Any]
    data_sha256: str

    @classmethod
    def of(cls, config: TrainingConfig, data_sha256: str) -> Identity:
        """The identity of a run."""
        return cls(config=config.model_dump(mode="json", include=set(_RESUME_FIELDS)), data_sha256=data_sha256)

    @property
    def sha256(self) -> str:
        """Of the canonical JSON; the manifest's `config_sha256`."""
        return hashlib.sha256(json.dumps(self.model_dump(), sort_keys=True).encode()).hexdigest()


class StateFile(Contract):
    """`state.json`."""

    identity: Identity
    state: RunState


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder that verified."""

    folder: Path
    manifest: Manifest


class Checkpoints:
    """The checkpoints of one run in one folder. `skipped` lists the folders that did not verify, with the reason."""

    def __init__(self, folder: Path, identity: Identity, *, keep: int) -> None:
        self._folder = folder
        self._identity = identity
        self._keep = keep
        self.skipped: tuple[str, ...] = ()
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(f"{_PARTIAL}*"):
            shutil.rmtree(leftover)
        self._verified = self._verify_all()

    def newest(self) -> Checkpoint | None:
        """The verified checkpoint of the highest step that can be gone on from.

        A sync that was cut off can leave a checkpoint without the best one before it, which would be published in the
        end; going on from an earlier one makes that best one again. Where there is no earlier one, work counts more.
        """
        steps = {found.manifest.step for found in self._verified}
        whole = (found for found in reversed(self._verified) if state_of(found).best_step in steps | {None})
        return next(whole, self._verified[-1] if self._verified else None)

    def best(self) -> Checkpoint | None:
        """The one with the lowest held-out loss, of equals the earliest, as far as it still verifies."""
        return next((found for found in self._by_loss() if _verifies(found.folder)), None)

    def would_be_best(self, eval_loss: float) -> bool:
        """True where no checkpoint has a held-out loss as low as this."""
        return all(eval_loss < loss_of(found) for found in self._by_loss())

    def save(self, state: RunState, write: Callable[[Path], None]) -> None:
        """Keep a checkpoint of `state`; `write` puts the tensors' files into the folder that it is given.

        Raises:
            OSError: the disk is full; earlier checkpoints are intact.
        """
        partial = self._folder / f"{_PARTIAL}{state.step}"
        final = self._folder / f"{_PREFIX}{state.step}"
        partial.mkdir()
        try:
            write(partial)
            document = StateFile(identity=self._identity, state=state)
            (partial / STATE_NAME).write_text(document.model_dump_json())
            manifest = self._manifest(partial, state)
            replace_file(partial / MANIFEST_NAME, manifest.model_dump_json(indent=1).encode())
            sync(partial)
            if final.exists():
                shutil.rmtree(final)
            partial.rename(final)
            sync(self._folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        others = [found for found in self._verified if found.manifest.step != state.step]
        self._verified = sorted([*others, Checkpoint(final, manifest)], key=lambda found: found.manifest.step)
        self._prune()

    def check_identity(self) -> None:
        """Refuse another run's checkpoints before anything slow begins.

        Raises:
            TrainingFault: the newest one is another run's; the evidence lists the fields that differ.
        """
        newest = self.newest()
        if newest is None or newest.manifest.config_sha256 == self._identity.sha256:
            return
        written = _state_file(newest).identity
        raise TrainingFault(
            "checkpoint_of_another_config",
            f"{newest.folder.name} was written by a run with another config or other data.",
            evidence="; ".join(_differences(written.model_dump(), self._identity.model_dump())),
            remedy="Submit the changed job as a new one; a job goes on only with what it began with.",
        )

    def _verify_all(self) -> list[Checkpoint]:
        found = []
        for folder in self._folder.glob(f"{_PREFIX}*"):
            try:
                found.append(Checkpoint(folder, verified_manifest(folder)))
            except ValueError as error:
                self.skipped += (f"{folder.name}: {error}",)
        return sorted(found, key=lambda checkpoint: checkpoint.manifest.step)

    def _manifest(self, folder: Path, state: RunState) -> Manifest:
        eval_loss = state.eval_loss if state.evaluated_step == state.step else None
        return Manifest(
            job_id=self._identity.config["job_id"],
            config_sha256=self._identity.sha256,
            step=state.step,
            tokens_seen=state.tokens_seen,
            created_at=time.time(),
            train_loss=state.train_loss,
            eval_loss=eval_loss,
            best=eval_loss is not None and self.would_be_best(eval_loss),
            files=tuple(_described(path) for path in sorted(folder.iterdir())),
        )

    def _prune(self) -> None:
        """Keep the newest ones and the best."""
        kept = [*self._verified[-max(1, self._keep) :], *self._by_loss()[:1]]
        for found in self._verified:
            if found not in kept:
                shutil.rmtree(found.folder)
        self._verified = [found for found in self._verified if found in kept]

    def _by_loss(self) -> list[Checkpoint]:
        evaluated = [found for found in self._verified if found.manifest.eval_loss is not None]
        return sorted(evaluated, key=loss_of)


def state_of(checkpoint: Checkpoint) -> RunState:
    """Where the run was."""
    return _state_file(checkpoint).state


def loss_of(checkpoint: Checkpoint) -> float:
    """Held-out loss of a checkpoint's weights; infinite where it was not taken."""
    loss = checkpoint.manifest.eval_loss
    return math.inf if loss is None else loss


def verified_manifest(folder: Path) -> Manifest:
    """The manifest of a folder of which every file is there, whole and unchanged.

    Raises:
        ValueError: it is not; says what is wrong.
    """
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST_NAME).read_bytes())
    except FileNotFoundError:
        raise ValueError("it has no manifest, so it was never finished") from None
    except ValidationError as error:
        raise ValueError(f"its manifest does not validate: {error.error_count()} faults") from error
    for expected in manifest.files:
        path = folder / expected.name
        if not path.is_file():
            raise ValueError(f"{expected.name} is missing")
        if path.stat().st_size != expected.bytes:
            raise ValueError(f"{expected.name} has {path.stat().st_size} bytes instead of {expected.bytes}")
        if _sha256(path) != expected.sha256:
            raise ValueError(f"{expected.name} has another sha256 than its manifest says")
    return manifest


def _state_file(checkpoint: Checkpoint) -> StateFile:
    return StateFile.model_validate_json((checkpoint.folder / STATE_NAME).read_bytes())


def _verifies(folder: Path) -> bool:
    try:
        verified_manifest(folder)
    except ValueError:
        return False
    return True


def _described(path: Path) -> ManifestFile:
    sync(path)
    return ManifestFile(name=path.name, bytes=path.stat().st_size, sha256=_sha256(path))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    """`field: old -> new` for each leaf that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = sorted(old.keys() | new.keys())
        return [line for name in names for line in _differences(old.get(name), new.get(name), f"{path}.{name}")]
    return [] if old == new else [f"{path.strip('.')}: {old!r} -> {new!r}"]
