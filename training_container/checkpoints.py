"""Checkpoints: written under another name, manifest last, renamed; what does not verify does not exist.

checkpoints/checkpoint-<step>/weights.safetensors   what is trained
                              optimizer.pt          the optimizer's state
                              state.json            where the run was
                              manifest.json         name, size and sha256 of all of them
"""

from __future__ import annotations

import hashlib
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from spotune.contracts.checkpoint import (
    CHECKPOINT_PREFIX,
    STATE_NAME,
    Identity,
    RunState,
    StateFile,
    differences,
    newest_whole,
)
from spotune.contracts.training import MANIFEST_NAME, Manifest, ManifestFile
from training_container.faults import TrainingFault
from training_container.folders import replace_file, sync
from training_container.writing import write_file

_PARTIAL = ".partial-"
_REPLACED = ".replaced-"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder that verified."""

    folder: Path
    manifest: Manifest


class Checkpoints:
    """The checkpoints of one run in one folder. `skipped` lists the folders that did not verify, with the reason."""

    def __init__(self, folder: Path, identity: Identity, *, job_id: str, keep: int) -> None:
        self._folder = folder
        self._identity = identity
        self._job_id = job_id
        self._keep = keep
        self.skipped: tuple[str, ...] = ()
        folder.mkdir(parents=True, exist_ok=True)
        self._clear_leftovers()
        self._verified = self._verify_all()

    def newest(self) -> Checkpoint | None:
        """The verified checkpoint that a run goes on from."""
        by_step = {found.manifest.step: found for found in self._verified}
        state = newest_whole(map(state_of, reversed(self._verified)), by_step.__contains__)
        return None if state is None else by_step[state.step]

    def best(self) -> Checkpoint | None:
        """The one with the lowest held-out loss, of equals the earliest, as far as it still verifies."""
        return next((found for found in self._by_loss() if _verifies(found.folder)), None)

    def would_be_best(self, eval_loss: float) -> bool:
        """True where no checkpoint has a held-out loss as low as this."""
        return all(eval_loss < loss_of(found) for found in self._by_loss())

    def save(self, state: RunState, files: Mapping[str, Any]) -> None:
        """Keep a checkpoint of `state` and of these files, see `write_file`.

        Raises:
            OSError: the disk is full; earlier checkpoints are intact.
        """
        partial = self._folder / f"{_PARTIAL}{state.step}"
        partial.mkdir()
        try:
            manifest = self._write(partial, state, files)
            final = self._put_in_place(partial, state.step)
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
        found = () if newest is None else differences(_state_file(newest).identity, self._identity)
        if newest is None or not found:
            return
        raise TrainingFault(
            "checkpoint_of_another_config",
            f"{newest.folder.name} was written by a run with another config or other data.",
            evidence="; ".join(found),
            remedy="Retry it: the retry starts from the beginning. A job goes on only with what it began with.",
        )

    def _clear_leftovers(self) -> None:
        """What a killed save left: half a checkpoint, or a whole one that was about to be replaced."""
        for leftover in self._folder.glob(f"{_PARTIAL}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        for leftover in self._folder.glob(f"{_REPLACED}*"):
            final = self._folder / f"{CHECKPOINT_PREFIX}{leftover.name.removeprefix(_REPLACED)}"
            if final.exists():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.rename(final)

    def _verify_all(self) -> list[Checkpoint]:
        found = []
        for folder in self._folder.glob(f"{CHECKPOINT_PREFIX}*"):
            try:
                found.append(_verified(folder))
            except ValueError as error:
                self.skipped += (f"{folder.name}: {error}",)
        return sorted(found, key=lambda checkpoint: checkpoint.manifest.step)

    def _write(self, folder: Path, state: RunState, files: Mapping[str, Any]) -> Manifest:
        document = StateFile(identity=self._identity, state=state)
        contents = {**files, STATE_NAME: document.model_dump_json().encode()}
        eval_loss = state.eval_loss if state.evaluated_step == state.step else None
        manifest = Manifest(
            job_id=self._job_id,
            config_sha256=self._identity.sha256,
            step=state.step,
            tokens_seen=state.tokens_seen,
            created_at=time.time(),
            train_loss=state.train_loss,
            eval_loss=eval_loss,
            best=eval_loss is not None and self.would_be_best(eval_loss),
            files=tuple(write_file(folder / name, content) for name, content in sorted(contents.items())),
        )
        replace_file(folder / MANIFEST_NAME, manifest.model_dump_json(indent=1).encode())
        sync(folder)
        return manifest

    def _put_in_place(self, partial: Path, step: int) -> Path:
        """A kill between any two of these operations leaves a whole checkpoint of the step, old or new."""
        final, replaced = (self._folder / f"{prefix}{step}" for prefix in (CHECKPOINT_PREFIX, _REPLACED))
        if final.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            final.rename(replaced)
        partial.rename(final)
        sync(self._folder)
        shutil.rmtree(replaced, ignore_errors=True)
        return final

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
        for expected in manifest.files:
            _check_file(folder, expected)
    except FileNotFoundError:
        raise ValueError("it has no manifest, so it was never finished") from None
    except ValidationError as error:
        raise ValueError(f"its manifest does not validate: {error.error_count()} faults") from error
    except OSError as error:
        raise ValueError(f"it cannot be read: {error}") from error
    if STATE_NAME not in {file.name for file in manifest.files}:
        raise ValueError(f"its manifest does not name {STATE_NAME}")
    return manifest


def _verified(folder: Path) -> Checkpoint:
    found = Checkpoint(folder, verified_manifest(folder))
    if folder.name != f"{CHECKPOINT_PREFIX}{found.manifest.step}":
        raise ValueError(f"its manifest is of step {found.manifest.step}")
    try:
        state_of(found)
    except ValidationError as error:
        raise ValueError(f"its {STATE_NAME} does not validate: {error.error_count()} faults") from error
    return found


def _check_file(folder: Path, expected: ManifestFile) -> None:
    path = folder / expected.name
    if path.parent != folder or path.is_symlink():
        raise ValueError(f"{expected.name} is not a file of its own")
    if not path.is_file():
        raise ValueError(f"{expected.name} is missing")
    if path.stat().st_size != expected.bytes:
        raise ValueError(f"{expected.name} has {path.stat().st_size} bytes instead of {expected.bytes}")
    if _sha256(path) != expected.sha256:
        raise ValueError(f"{expected.name} has another sha256 than its manifest says")


def _state_file(checkpoint: Checkpoint) -> StateFile:
    return StateFile.model_validate_json((checkpoint.folder / STATE_NAME).read_bytes())


def _verifies(folder: Path) -> bool:
    try:
        verified_manifest(folder)
    except ValueError:
        return False
    return True


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
