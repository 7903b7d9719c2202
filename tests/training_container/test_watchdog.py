"""A step that hangs ends the process, with the stacks that say where; nothing else is ever taken for one."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from spotune.contracts.training import ExitCode
from tests.explained import container_failed, explained
from tests.training_container.building import failure_of
from tests.training_container.kills import train
from training_container import watchdog
from training_container.watchdog import FACTOR, FIRST, FLOOR, Watchdog

pytestmark = pytest.mark.torch

Root = Callable[..., Path]


class Ticking:
    """A watchdog whose ticks the test gives, and what it cried."""

    def __init__(self) -> None:
        self.cries: list[str] = []
        self.dog = Watchdog(self.cries.append)

    def step(self, ticks: int) -> None:
        with self.dog.step():
            self.pass_(ticks)

    def pass_(self, ticks: int) -> None:
        for _ in range(ticks):
            self.dog.tick()


def test_a_step_hangs_where_it_takes_ten_times_the_longest_of_the_last_ones() -> None:
    one = Ticking()
    one.step(100)
    one.step(3)
    one.step(FACTOR * 100 - 1)
    assert one.cries == []
    one.step(FACTOR * (FACTOR * 100 - 1))
    assert len(one.cries) == 1
    assert "test_watchdog.py" in one.cries[0]


def test_short_steps_have_ten_minutes_and_the_first_of_a_process_an_hour() -> None:
    one = Ticking()
    one.step(FIRST - 1)
    one = Ticking()
    one.step(1)
    one.step(FLOOR - 1)
    assert one.cries == []


def test_evaluation_saving_and_publication_may_take_what_they_take() -> None:
    one = Ticking()
    one.step(1)
    one.pass_(100 * FLOOR)
    one.step(1)
    assert one.cries == []


def test_a_step_that_failed_says_nothing_about_how_long_steps_are() -> None:
    one = Ticking()
    with contextlib.suppress(MemoryError), one.dog.step():
        one.pass_(FIRST - 1)
        raise MemoryError
    one.step(1)
    assert one.dog.limit == FLOOR


def test_a_process_that_hangs_ends_with_a_failure_that_is_tried_again(root: Root) -> None:
    folder = root(checkpoint={"interval_seconds": 3600})
    assert train(folder, looks=False, prepare=hang_in_step_three) == ExitCode.INTERNAL
    failure = failure_of(folder)
    assert failure.code == "step_hangs"
    assert failure.message.startswith("Step 3 did not end within ")
    assert re.search(r"test_watchdog.py:\d+ hangs > threading.py:\d+ wait", failure.evidence)
    assert explained(container_failed(failure, ExitCode.INTERNAL)).cause == "internal"
    assert not (folder / "model" / "report.json").exists()
    assert train(folder, looks=False) == ExitCode.PUBLISHED


def hang_in_step_three() -> None:
    """In the process that trains: the third step never ends, and a step has 100 ticks."""
    from training_container.trainer import Trainer

    steps = Trainer._step

    def hangs(trainer: Trainer) -> None:
        if trainer.state.step == 2:
            threading.Event().wait()
        steps(trainer)

    Trainer._step = hangs  # type: ignore[method-assign]
    watchdog.TICK_SECONDS = 0.02
    watchdog.FLOOR = 100
