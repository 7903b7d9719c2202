"""What a run logged, over all its processes: appended, cut back, and read where a process was killed in between."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from spotune.contracts.training import ExitCode
from tests.training_container.kills import train
from training_container.metrics import METRICS_NAME, MetricsLog

Root = Callable[..., Path]


@pytest.fixture
def log(tmp_path: Path) -> MetricsLog:
    made = MetricsLog(tmp_path)
    for step in (1, 2, 3):
        made.append({"step": step, "train_loss": 4.0 - step})
    return made


def test_points_are_read_in_the_order_of_logging_by_another_process(log: MetricsLog, tmp_path: Path) -> None:
    assert MetricsLog(tmp_path).points() == [{"step": step, "train_loss": 4.0 - step} for step in (1, 2, 3)]
    assert MetricsLog(tmp_path / "nothing").points() == []


def test_what_lies_beyond_a_step_is_cut_off_and_logged_anew(log: MetricsLog) -> None:
    log.cut(2)
    log.append({"step": 3, "train_loss": 0.5})
    assert [point["train_loss"] for point in log.points()] == [3.0, 2.0, 0.5]
    log.cut(0)
    assert log.points() == []


@pytest.mark.parametrize("damage", [b'{"step": 4, "train', b"\xff\xfe\x00", b'"step"', b'{"train_loss": 1}', b"null"])
def test_a_line_that_is_no_point_is_passed_over_and_gone_after_the_next_cut(
    log: MetricsLog, tmp_path: Path, damage: bytes
) -> None:
    path = tmp_path / METRICS_NAME
    path.write_bytes(path.read_bytes() + damage)
    assert [point["step"] for point in log.points()] == [1, 2, 3]
    log.cut(3)
    log.append({"step": 4})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3, 4]


@pytest.mark.torch
def test_a_run_that_was_stopped_twice_has_each_step_once(root: Root) -> None:
    folder = root(checkpoint={"interval_seconds": 1000})
    path = folder / "checkpoints" / METRICS_NAME
    assert train(folder, looks=False, stop_at=(4,)) == ExitCode.STOPPED
    with path.open("a") as file:  # as a process that is killed goes on logging beyond its last checkpoint
        file.write('{"step": 5, "train_loss": 99.0}\n{"step": 6, "tr')
    assert train(folder, looks=False) == ExitCode.PUBLISHED
    losses = [point for point in MetricsLog(folder / "checkpoints").points() if "train_loss" in point]
    assert [point["step"] for point in losses] == list(range(1, len(losses) + 1))
    assert all(point["train_loss"] < 99.0 for point in losses)
