"""What a process knows of those before it."""

from __future__ import annotations

from pathlib import Path

import pytest

from training_container.folders import Folders
from training_container.progress import Reporter


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
    monkeypatch.setenv("TRAINING_JOB_NAME", "ftjob-1-1")
    return Folders(tmp_path)


def begin(folders: Folders, *, quiet: bool = False) -> Reporter:
    """A process at its first second, which an hour of bringing machine, image and data came before."""
    return Reporter(folders, lambda: 0.0, 0.0, quiet=quiet, unseen_seconds=3600)


def test_each_launch_of_a_training_job_counts_once(folders: Folders) -> None:
    assert [begin(folders).counted for _ in range(3)] == [3600, 7200, 10800]
    assert begin(folders).elapsed == 0


def test_another_training_job_has_a_limit_of_its_own(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(folders)
    begin(folders)
    monkeypatch.setenv("TRAINING_JOB_NAME", "ftjob-1-2")
    assert begin(folders).counted == 3600


def test_processes_that_begin_again_on_the_same_machine_are_no_launch(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(folders)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert begin(folders).counted == 3600
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    assert begin(folders).counted == 7200


def test_of_processes_that_train_together_one_counts_the_launch(folders: Folders) -> None:
    begin(folders)
    assert begin(folders, quiet=True).counted == 3600
    assert begin(folders).counted == 7200


def test_a_launch_counts_where_the_one_before_it_left_no_progress(folders: Folders) -> None:
    begin(folders)
    folders.progress.unlink()
    assert begin(folders).counted == 7200


def test_notes_of_before_launches_were_counted_are_read(folders: Folders) -> None:
    folders.checkpoints.mkdir()
    (folders.checkpoints / "history.json").write_text('{"training_job": "ftjob-1-1", "lost_steps": 3}')
    reporter = begin(folders)
    assert (reporter.counted, reporter.history.lost_steps) == (3600, 3)
