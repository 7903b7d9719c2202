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
    SHARD_MARK,
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
from training_container.sharding.world import ALONE, Exchange, World
from training_container.writing import write_file

_PARTIAL = ".partial-"
_REPLACED = ".replaced-"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder that verified."""

    folder: Path
    manifest: Manifest


class Checkpoints:
    """The checkpoints of one run in one folder. `skipped` lists the folders that did not verify, with the reason.

    Several ranks save together, each its own files; the first one knows what is there, and the others ask it.
    `base` is the fingerprint of the base model's weights.
    """

    def __init__(
        self, folder: Path, identity: Identity, *, job_id: str, keep: int, world: World = ALONE, base: str = ""
    ) -> None:
        self.base = base
        self._folder = folder
        self._identity = identity
        self._job_id = job_id
        self._keep = keep
        self._world = world
        self._exchange = Exchange(world, f"checkpoints/{job_id}")
        self.skipped: tuple[str, ...] = ()
        self._damaged: set[str] = set()
        folder.mkdir(parents=True, exist_ok=True)
        if world.first_on_host:
            self._clear_leftovers()
        self._verified = self._verify_all()

    def newest(self) -> Checkpoint | None:
        """The verified checkpoint that a run goes on from."""
        by_step = {found.manifest.step: found for found in self._verified}

        def newest() -> Checkpoint | None:
            state = newest_whole(map(state_of, reversed(self._verified)), by_step.__contains__)
            return None if state is None else by_step[state.step]

        return self._world.from_first(newest)

    def best(self) -> Checkpoint | None:
        """The one with the lowest held-out loss, of equals the earliest, as far as it still verifies."""
        return self._world.from_first(lambda: next((found for found in self._by_loss() if _serves(found)), None))

    def would_be_best(self, eval_loss: float) -> bool:
        """True where no checkpoint has a held-out loss as low as this."""
        return self._world.from_first(lambda: self._lowest(eval_loss))

    def save(self, state: RunState, files: Mapping[str, Any]) -> None:
        """Keep a checkpoint of `state` and of these files, see `write_file`.

        All ranks call it, from any thread, each with its own files under names of its own.

        Raises:
            OSError: the disk is full; earlier checkpoints are intact.
        """
        partial = self._folder / f"{_PARTIAL}{state.step}"
        partial.mkdir(exist_ok=self._world.size > 1)
        try:
            written = [write_file(partial / name, content) for name, content in sorted(files.items())]
            parts = self._exchange.gather(written)
            if self._world.first_on_host and not self._world.first:
                self._put_in_place(partial, state.step)
            self._exchange.gather(None)  # the manifest comes last of all, wherever the others' files lie
            if self._world.first:
                manifest = self._write_manifest(partial, state, [file for part in parts for file in part])
                self._keep_track(Checkpoint(self._put_in_place(partial, state.step), manifest))
        finally:
            if self._world.first_on_host:
                shutil.rmtree(partial, ignore_errors=True)
        self._prune()

    def here(self, checkpoint: Checkpoint) -> Path:
        """The checkpoint's folder on this host, with what is there of it."""
        return self._folder / checkpoint.folder.name

    def check_identity(self) -> None:
        """Refuse another run's checkpoints before anything slow begins.

        Raises:
            TrainingFault: the newest one is another run's, or of another base model; the evidence lists what differs.
        """
        newest = self.newest()
        if newest is None:
            return
        written = self._world.from_first(lambda: _state_file(newest))
        if written.base not in ("", self.base):  # an earlier version did not say
            raise TrainingFault(
                "checkpoint_of_another_model",
                f"{newest.folder.name} was written over another base model of the same name.",
                evidence=f"fingerprint of its weights: {written.base[:16]} -> {self.base[:16]}",
                remedy="Retry it: the retry starts from the beginning. Or upload the base model that it began with.",
            )
        found = differences(written.identity, self._identity)
        if not found:
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
        """What the first rank knows; the other hosts look at those files that lie with them alone."""
        manifests = self._world.from_first(self._manifests)
        on_host = {name: faults_in(self._folder / name, manifest) for name, manifest in manifests.items()}
        everywhere = self._world.gather(on_host if self._world.first_on_host else None)
        found = []
        for name, manifest in manifests.items() if self._world.first else ():
            views = [view[name] for view in everywhere if view is not None]
            wrong = [views[0][file] for file in views[0] if all(file in view for view in views)]
            try:
                found.append(_sound(Checkpoint(self._folder / name, manifest), wrong))
            except ValueError as error:
                self._skip(name, error)
        return sorted(found, key=lambda checkpoint: checkpoint.manifest.step)

    def _manifests(self) -> dict[str, Manifest]:
        found = {}
        for folder in self._folder.glob(f"{CHECKPOINT_PREFIX}*"):
            try:
                found[folder.name] = _read_manifest(folder)
            except ValueError as error:
                self._skip(folder.name, error)
        return found

    def _skip(self, name: str, error: ValueError) -> None:
        self.skipped += (f"{name}: {error}",)
        self._damaged.add(name)

    def _write_manifest(self, folder: Path, state: RunState, files: list[ManifestFile]) -> Manifest:
        document = StateFile(identity=self._identity, base=self.base, state=state)
        eval_loss = state.eval_loss if state.evaluated_step == state.step else None
        manifest = Manifest(
            job_id=self._job_id,
            config_sha256=self._identity.sha256,
            step=state.step,
            tokens_seen=state.tokens_seen,
            created_at=time.time(),
            train_loss=state.train_loss,
            eval_loss=eval_loss,
            best=eval_loss is not None and self._lowest(eval_loss),
            files=(*files, write_file(folder / STATE_NAME, document.model_dump_json().encode())),
        )
        replace_file(folder / MANIFEST_NAME, manifest.model_dump_json(indent=1).encode())
        return manifest

    def _put_in_place(self, partial: Path, step: int) -> Path:
        """A kill between any two of these operations leaves a whole checkpoint of the step, old or new."""
        sync(partial)
        final, replaced = (self._folder / f"{prefix}{step}" for prefix in (CHECKPOINT_PREFIX, _REPLACED))
        if final.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            final.rename(replaced)
        partial.rename(final)
        sync(self._folder)
        shutil.rmtree(replaced, ignore_errors=True)
        return final

    def _keep_track(self, saved: Checkpoint) -> None:
        others = [found for found in self._verified if found.manifest.step != saved.manifest.step]
        self._verified = sorted([*others, saved], key=lambda found: found.manifest.step)
        self._damaged.discard(saved.folder.name)

    def _prune(self) -> None:
        """Keep the newest ones and the best; on every host what the first rank keeps. The disk has room for no more:
        once there is a newer one, those that did not verify go, too."""
        kept = [*self._verified[-max(1, self._keep) :], *self._by_loss()[:1]]
        outlived = [found.folder.name for found in self._verified if found not in kept]
        dropped = self._exchange.from_first([*outlived, *self._damaged])
        for name in dropped if self._world.first_on_host else ():
            shutil.rmtree(self._folder / name, ignore_errors=not self._world.first or name in self._damaged)
        self._verified = [found for found in self._verified if found in kept]
        self._damaged.clear()

    def _lowest(self, eval_loss: float) -> bool:
        return all(eval_loss < loss_of(found) for found in self._by_loss())

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
    manifest = _read_manifest(folder)
    for fault in faults_in(folder, manifest).values():
        raise ValueError(fault)
    return manifest


def faults_in(folder: Path, manifest: Manifest) -> dict[str, str]:
    """What is wrong with the files that the manifest names, by name; nothing of those that are as it says."""
    found = {}
    for expected in manifest.files:
        try:
            _check_file(folder, expected)
        except ValueError as error:
            found[expected.name] = str(error)
        except OSError as error:
            found[expected.name] = f"it cannot be read: {error}"
    return found


def _read_manifest(folder: Path) -> Manifest:
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST_NAME).read_bytes())
    except FileNotFoundError:
        raise ValueError("it has no manifest, so it was never finished") from None
    except ValidationError as error:
        raise ValueError(f"its manifest does not validate: {error.error_count()} faults") from error
    except OSError as error:
        raise ValueError(f"it cannot be read: {error}") from error
    if STATE_NAME not in {file.name for file in manifest.files}:
        raise ValueError(f"its manifest does not name {STATE_NAME}")
    return manifest


def _sound(found: Checkpoint, wrong: list[str]) -> Checkpoint:
    if wrong:
        raise ValueError(wrong[0])
    if found.folder.name != f"{CHECKPOINT_PREFIX}{found.manifest.step}":
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


def _serves(found: Checkpoint) -> bool:
    """True where all that is not a rank's own part is still whole: what is published comes from it."""
    wrong = faults_in(found.folder, found.manifest)
    return all(SHARD_MARK in name for name in wrong)


def _state_file(checkpoint: Checkpoint) -> StateFile:
    return StateFile.model_validate_json((checkpoint.folder / STATE_NAME).read_bytes())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
