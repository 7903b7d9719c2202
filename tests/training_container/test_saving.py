"""Checkpoints beside training: the state of the moment, one at a time, early enough, and no error lost."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from spotune.contracts.checkpoint import RunState
from tests.training_container.test_checkpoints import IDENTITY
from training_container.checkpoints import Checkpoints
from training_container.saving import Saver

pytestmark = pytest.mark.torch

INTERVAL = 100.0


class Clock:
    """Seconds that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Slow(Checkpoints):
    """Checkpoints on a disk that writes when the test lets it, or fails."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        super().__init__(folder, IDENTITY, job_id="ftjob-1", keep=9)
        self.clock = clock
        self.takes = 0.0
        self.may_write = threading.Event()
        self.begun = threading.Event()
        self.fails = False

    def save(self, state: RunState, files: Mapping[str, Any]) -> None:
        self.begun.set()
        self.may_write.wait()
        if self.fails:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.clock.now += self.takes
        super().save(state, files)


class Desk:
    """A saver with its disk and clock."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.disk = Slow(folder, self.clock)
        self.saver = Saver(self.disk, self.clock, INTERVAL)
        self.weights = {"weights.safetensors": {"w": torch.zeros(3)}, "optimizer.pt": {"state": [torch.zeros(3)]}}

    def save(self, step: int, *, beside: bool = True) -> None:
        self.saver.save(RunState(step=step), self.weights, beside=beside)

    def write(self, *seconds: float) -> None:
        """Checkpoints, one after the other, each of which the disk takes so long for."""
        self.disk.may_write.set()
        for self.disk.takes in seconds:
            self.save(len(self.steps()) + 1, beside=False)
        self.disk.takes = 0.0
        self.saver.start()

    def age(self, seconds: float) -> None:
        """The newest checkpoint is so old."""
        self.clock.now = self.saver._copied_at + seconds

    def steps(self) -> list[int]:
        return [found.manifest.step for found in self.disk._verified]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.disk.may_write.set()
    made.saver.close()


def test_what_is_written_is_what_was_there_when_it_was_asked_for(desk: Desk, tmp_path: Path) -> None:
    for step in (1, 2):
        desk.save(step)
        assert desk.disk.begun.wait(10)
        desk.weights["weights.safetensors"]["w"] += 1
        desk.weights["optimizer.pt"]["state"][0] += 1
        desk.disk.may_write.set()
        desk.saver.wait()
        optimizer = torch.load(tmp_path / f"checkpoint-{step}" / "optimizer.pt", weights_only=True)
        assert optimizer["state"][0].tolist() == [step - 1.0] * 3
        desk.disk.begun.clear()
        desk.disk.may_write.clear()


def test_training_goes_on_while_a_checkpoint_is_written_and_the_next_one_waits_for_it(desk: Desk) -> None:
    desk.save(1)
    desk.saver.keep_up(step_seconds=10)
    assert desk.steps() == []
    later = threading.Thread(target=desk.save, args=(2,))
    later.start()
    desk.disk.may_write.set()
    later.join(10)
    desk.saver.wait()
    assert desk.steps() == [1, 2]


def test_training_waits_where_another_step_would_make_more_than_an_interval_to_lose(desk: Desk) -> None:
    desk.save(1)
    desk.clock.now = INTERVAL - 10
    waits = threading.Thread(target=desk.saver.keep_up, args=(10,))
    waits.start()
    desk.disk.may_write.set()
    waits.join(10)
    assert desk.steps() == [1]


def test_a_checkpoint_begins_so_early_that_it_is_whole_within_the_interval(desk: Desk) -> None:
    desk.disk.may_write.set()
    assert not desk.saver.due(step_seconds=10)
    desk.clock.now = INTERVAL - 20
    assert desk.saver.due(step_seconds=10)
    desk.write(16.0)
    desk.age(INTERVAL - 40)
    assert desk.saver.due(step_seconds=10)
    assert not desk.saver.due(step_seconds=9)


def test_a_disk_that_is_slow_twice_running_stretches_the_interval_and_says_so(desk: Desk) -> None:
    desk.write(60.0, 50.0)
    assert desk.saver.interval == 150
    desk.age(80)
    assert not desk.saver.due(step_seconds=1)
    desk.age(150 - 2 - 1.25 * 50)
    assert desk.saver.due(step_seconds=1)
    assert desk.saver.warnings == (
        "The disk took 50 s to write a checkpoint: they lay up to 150 s apart instead of 100 s, so that training did"
        " not wait for it.",
    )


@pytest.mark.parametrize("writes", [(600.0,), (5.0, 600.0), (5.0, 600.0, 5.0)])
def test_a_write_that_hung_once_stretches_nothing(desk: Desk, writes: tuple[float, ...]) -> None:
    desk.write(*writes)
    assert desk.saver.interval == INTERVAL
    assert desk.saver.warnings == ()


def test_a_disk_that_has_recovered_gets_the_interval_that_was_asked_for_and_the_report_remembers(desk: Desk) -> None:
    desk.write(50.0, 50.0, 5.0)
    assert desk.saver.interval == INTERVAL
    assert "up to 150 s apart" in desk.saver.warnings[0]


def test_on_a_hopeless_disk_write_follows_write_and_training_waits_for_none(desk: Desk) -> None:
    desk.write(600.0, 600.0)
    assert desk.saver.interval == 2.5 * INTERVAL
    assert desk.saver.due(step_seconds=1)
    desk.disk.may_write.clear()
    desk.save(3)
    desk.age(600)
    trains = threading.Thread(target=desk.saver.keep_up, args=(1,))
    trains.start()
    trains.join(10)
    assert not trains.is_alive()
    assert desk.steps() == [1, 2]


@pytest.mark.parametrize("next_call", ["save", "keep_up", "wait"])
def test_what_the_thread_met_is_raised_by_the_next_call_once(desk: Desk, next_call: str) -> None:
    desk.disk.fails = True
    desk.disk.may_write.set()
    desk.save(1)
    desk.clock.now = INTERVAL
    calls = {"save": lambda: desk.save(2), "keep_up": lambda: desk.saver.keep_up(1), "wait": desk.saver.wait}
    with pytest.raises(OSError, match="No space left"):
        calls[next_call]()
    desk.disk.fails = False
    desk.save(3, beside=False)
    assert desk.steps() == [3]


def test_a_run_that_ends_with_an_error_of_its_own_lets_the_checkpoint_end(desk: Desk) -> None:
    desk.save(1)
    desk.disk.may_write.set()
    desk.saver.close()
    assert desk.steps() == [1]
