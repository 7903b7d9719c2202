"""Checkpoints on disk: whole or not there, pruned, and never trusted unseen."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotune.contracts.checkpoint import Identity, RunState, StateFile, WholeCheckpoint, superseded
from spotune.contracts.training import CheckpointConfig, Manifest, ManifestFile, TrainingConfig
from tests.training_container.building import CONFIG
from training_container.checkpoints import Checkpoints, verified_manifest
from training_container.writing import write_file

pytestmark = pytest.mark.torch

IDENTITY = Identity.of(TrainingConfig.model_validate(CONFIG), "0" * 64)


FILES = {"weights.safetensors": b"weights", "optimizer.pt": b"moments"}


def state(step: int, eval_loss: float | None = None) -> RunState:
    return RunState(step=step, evaluated_step=step if eval_loss is not None else -1, eval_loss=eval_loss)


def saved(folder: Path, *states: RunState, keep: int = 2) -> Checkpoints:
    checkpoints = Checkpoints(folder, IDENTITY, job_id="ftjob-1", keep=keep)
    for one in states:
        checkpoints.save(one, FILES)
    return checkpoints


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_manifest_names_every_file_with_size_and_sha256(tmp_path: Path) -> None:
    saved(tmp_path, state(3, 1.5))
    manifest = verified_manifest(tmp_path / "checkpoint-3")
    assert {file.name for file in manifest.files} == {"weights.safetensors", "optimizer.pt", "state.json"}
    assert (manifest.step, manifest.eval_loss, manifest.best) == (3, 1.5, True)


def manifest_of(folder: Path) -> Manifest:
    return Manifest.model_validate_json((folder / "manifest.json").read_bytes())


def rewritten(folder: Path, files: tuple[ManifestFile, ...]) -> None:
    (folder / "manifest.json").write_text(manifest_of(folder).with_(files=files).model_dump_json())


def renamed(folder: Path, name: str, other: str) -> None:
    rewritten(folder, tuple(f.with_(name=other) if f.name == name else f for f in manifest_of(folder).files))


def dropped(folder: Path, name: str) -> None:
    rewritten(folder, tuple(file for file in manifest_of(folder).files if file.name != name))


def moved_away(path: Path) -> None:
    path.rename(path.parent.parent / path.name)
    path.symlink_to(path.parent.parent / path.name)


def foreign_state(folder: Path) -> None:
    (folder / "state.json").unlink()
    described = write_file(folder / "state.json", b'{"epoch": 1}')
    rewritten(folder, tuple(described if f.name == "state.json" else f for f in manifest_of(folder).files))


def of_another_step(folder: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(folder.parent / "checkpoint-1", folder)


def as_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_bytes(b"")


def as_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "never finished"),
        (lambda folder: (folder / "manifest.json").write_text("{}"), "does not validate"),
        (lambda folder: (folder / "manifest.json").write_bytes(b"\xff\x00"), "does not validate"),
        (lambda folder: (folder / "weights.safetensors").unlink(), "is missing"),
        (lambda folder: (folder / "weights.safetensors").write_bytes(b"weight"), "6 bytes instead of 7"),
        (lambda folder: (folder / "weights.safetensors").write_bytes(b"weightz"), "another sha256"),
        (lambda folder: (folder / "optimizer.pt").write_bytes(b""), "0 bytes instead of 7"),
        (lambda folder: (folder / "manifest.json").write_bytes(b""), "does not validate"),
        (lambda folder: moved_away(folder / "weights.safetensors"), "not a file of its own"),
        (lambda folder: renamed(folder, "weights.safetensors", "../weights"), "not a file of its own"),
        (lambda folder: renamed(folder, "weights.safetensors", "/etc/hostname"), "not a file of its own"),
        (lambda folder: dropped(folder, "state.json"), "does not name state.json"),
        (lambda folder: foreign_state(folder), "state.json does not validate"),
        (lambda folder: shutil.copy(folder.parent / "checkpoint-1/manifest.json", folder), "another sha256"),
        (lambda folder: of_another_step(folder), "is of step 1"),
        (lambda folder: as_a_file(folder), "cannot be read"),
        (lambda folder: as_a_folder(folder / "manifest.json"), "cannot be read"),
    ],
)
def test_a_harmed_checkpoint_does_not_exist(tmp_path: Path, harm: object, reason: str) -> None:
    saved(tmp_path, state(1), state(2))
    harm(tmp_path / "checkpoint-2")
    checkpoints = Checkpoints(tmp_path, IDENTITY, job_id="ftjob-1", keep=2)
    newest = checkpoints.newest()
    assert newest is not None
    assert newest.manifest.step == 1
    assert len(checkpoints.skipped) == 1
    assert checkpoints.skipped[0].startswith("checkpoint-2: ")
    assert reason in checkpoints.skipped[0]


def test_a_checkpoint_without_the_best_one_before_it_is_not_gone_on_from(tmp_path: Path) -> None:
    best_first = (state(1, 3.0).with_(best_step=1), state(2, 1.0).with_(best_step=2), state(3).with_(best_step=2))
    saved(tmp_path, *best_first, keep=3)
    shutil.rmtree(tmp_path / "checkpoint-2")
    newest = Checkpoints(tmp_path, IDENTITY, job_id="ftjob-1", keep=3).newest()
    assert newest is not None
    assert newest.manifest.step == 1
    shutil.rmtree(tmp_path / "checkpoint-1")
    last = Checkpoints(tmp_path, IDENTITY, job_id="ftjob-1", keep=3).newest()
    assert last is not None
    assert last.manifest.step == 3


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    saved(tmp_path, state(1, 3.0), state(2, 1.0), state(3, 2.0), state(4), state(5))
    assert names(tmp_path) == ["checkpoint-2", "checkpoint-4", "checkpoint-5"]


@given(data=st.data(), keep=st.integers(1, 3))
@settings(max_examples=100, deadline=None)
def test_the_disk_never_holds_more_checkpoints_than_the_plan_counts(data: st.DataObject, keep: int) -> None:
    """Over machines that each begin with all that the service has left in S3: some does not verify, and one the machine
    before did not bring up."""
    most = CheckpointConfig(interval_seconds=60, keep=keep).at_most
    with TemporaryDirectory() as kept, TemporaryDirectory() as disk:
        s3, folder, step = Path(kept), Path(disk) / "checkpoints", 0
        for _ in range(data.draw(st.integers(1, 3))):
            shutil.rmtree(folder, ignore_errors=True)
            prune(s3, keep)
            shutil.copytree(s3, folder)
            for name in names(folder):
                if data.draw(st.booleans()):
                    (folder / name / "optimizer.pt").write_bytes(b"damaged")
            counting = Counting(folder, IDENTITY, job_id="ftjob-1", keep=keep)
            for loss in data.draw(st.lists(st.none() | st.floats(0, 9), min_size=1, max_size=5)):
                step += 1
                counting.save(state(step, loss), FILES)
                shutil.copytree(folder / f"checkpoint-{step}", s3 / f"checkpoint-{step}")
                assert counting.most <= most
                assert len(names(folder)) < most
            if data.draw(st.booleans()):
                step += 1
                (s3 / f"checkpoint-{step}").mkdir()


def prune(s3: Path, keep: int) -> None:
    """As the service does."""
    whole = {
        manifest.step: WholeCheckpoint(
            manifest, StateFile.model_validate_json((path / "state.json").read_bytes()).state
        )
        for path in s3.iterdir()
        if (path / "manifest.json").exists() and (manifest := manifest_of(path))
    }
    steps = [int(path.name.removeprefix("checkpoint-")) for path in s3.iterdir()]
    for step in superseded(steps, whole, keep):
        shutil.rmtree(s3 / f"checkpoint-{step}")


class Counting(Checkpoints):
    """Counts the folders when there are the most: with a new one that is all but in its place."""

    most = 0

    def _put_in_place(self, partial: Path, step: int) -> Path:
        self.most = max(self.most, len(names(partial.parent)))
        return super()._put_in_place(partial, step)


def test_one_that_did_not_verify_goes_when_there_is_a_newer_one_and_not_when_it_is_made_again(tmp_path: Path) -> None:
    saved(tmp_path, state(1), state(2), state(3))
    for step in (2, 3):
        (tmp_path / f"checkpoint-{step}" / "optimizer.pt").write_bytes(b"")
    checkpoints = Checkpoints(tmp_path, IDENTITY, job_id="ftjob-1", keep=2)
    assert len(checkpoints.skipped) == 2
    assert names(tmp_path) == ["checkpoint-2", "checkpoint-3"]
    checkpoints.save(state(2), FILES)
    assert names(tmp_path) == ["checkpoint-2"]
    assert verified_manifest(tmp_path / "checkpoint-2").step == 2


def test_what_a_killed_save_left_behind_is_cleared_away(tmp_path: Path) -> None:
    saved(tmp_path, state(1))
    shutil.copytree(tmp_path / "checkpoint-1", tmp_path / ".partial-2")
    assert saved(tmp_path, state(2)).skipped == ()
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-2"]


def test_a_kill_while_a_checkpoint_is_replaced_leaves_the_old_one(tmp_path: Path) -> None:
    saved(tmp_path, state(1))
    (tmp_path / "checkpoint-1").rename(tmp_path / ".replaced-1")
    assert saved(tmp_path).newest() is not None
    shutil.copytree(tmp_path / "checkpoint-1", tmp_path / ".replaced-1")
    saved(tmp_path)
    assert names(tmp_path) == ["checkpoint-1"]


def test_a_step_saved_again_with_its_loss_replaces_the_one_without(tmp_path: Path) -> None:
    saved(tmp_path, state(4), state(4, 0.5))
    manifest = Manifest.model_validate_json((tmp_path / "checkpoint-4" / "manifest.json").read_bytes())
    assert manifest.eval_loss == 0.5


def test_the_best_is_verified_once_more_before_it_is_used(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, state(1, 1.0), state(2, 2.0))
    (tmp_path / "checkpoint-1" / "weights.safetensors").write_bytes(b"weightz")
    best = checkpoints.best()
    assert best is not None
    assert best.manifest.step == 2


def test_a_resume_may_change_hardware_and_limits_but_not_what_is_learnt() -> None:
    config = TrainingConfig.model_validate(CONFIG)
    faster = config.with_(hardware=config.hardware.with_(micro_batch_size=8))
    other = config.with_(seed=12)
    assert Identity.of(faster, "0" * 64).sha256 == IDENTITY.sha256
    assert Identity.of(other, "0" * 64).sha256 != IDENTITY.sha256
    assert Identity.of(config, "1" * 64).sha256 != IDENTITY.sha256
