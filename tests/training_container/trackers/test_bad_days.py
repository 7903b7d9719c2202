"""Trackers that refuse, hang, die and come back: training goes on, and the report says what is missing."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spotune.contracts.training import ExitCode, TrackerConfig
from tests.training_container.trackers.conftest import Begin
from tests.training_container.trackers.servers import MLflowServer, hanging, nobody, redirecting
from training_container.trackers import trackers as limits
from training_container.trackers.sending import Sender
from training_container.trackers.tracker import Ending, Point, RunFacts
from training_container.trackers.trackers import Trackers

pytestmark = pytest.mark.torch

PUBLISHED = Ending("published", {}, ())


def log(trackers: Trackers, *steps: int) -> None:
    for step in steps:
        trackers.log(step, {"train_loss": 1 / step})


def mlflow(server: str, **changes: object) -> dict[str, Any]:
    return {"type": "mlflow", "server": server, **changes}


def test_a_server_that_is_not_there_is_named_in_the_report_with_what_it_lacks(begin: Begin) -> None:
    trackers = begin(mlflow(nobody()))
    log(trackers, 1, 2, 3)
    said, missing = trackers.settle()
    assert "Connection refused" in said or "Max retries exceeded" in said
    assert missing == "Tracker mlflow: 3 points were not delivered when the report was written."
    trackers.end(PUBLISHED, 20)
    assert "Tracker mlflow: 3 points were dropped." in trackers._senders[0].warnings


def test_a_server_that_hangs_holds_nobody_but_its_own_thread(begin: Begin, tmp_path: Path) -> None:
    with hanging() as address:
        trackers = begin(mlflow(address), {"type": "tensorboard"})
        log(trackers, 1, 2)
        trackers._senders[1].settle(30)
        trackers._senders[0].settle(0.05)
        (warning,) = trackers._senders[0].warnings
        assert warning == "Tracker mlflow: 2 points were not delivered when the report was written."
        assert trackers._senders[1].warnings == ()
        trackers.end(PUBLISHED, 0.05)


def test_a_job_with_a_hanging_tracker_is_published_and_warns(
    root: Callable[..., Path], train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SETTLE_SECONDS", 0.1)
    monkeypatch.setattr(limits, "FINISH_SECONDS", 0.1)
    with hanging() as address:
        folder = root(trackers=[mlflow(address)])
        assert train(folder) == ExitCode.PUBLISHED
    report = json.loads((folder / "model" / "report.json").read_text())
    assert [warning for warning in report["warnings"] if "mlflow" in warning]


def test_a_server_that_dies_and_comes_back_has_every_point_once_and_in_order(
    begin: Begin, server: MLflowServer
) -> None:
    trackers = begin(mlflow(server.address))
    log(trackers, 1, 2, 3)
    assert trackers.settle() == ()
    server.stop()
    log(trackers, 4, 5)
    trackers.settle()
    log(trackers, 6)
    server.start()
    trackers.end(PUBLISHED, 30)
    assert [step for step, _ in server.history("train_loss")] == [1, 2, 3, 4, 5, 6]
    assert server.run().info.status == "FINISHED"


def test_the_oldest_points_are_dropped_when_there_is_no_room_and_they_are_counted(facts: RunFacts) -> None:
    sender = Sender(TrackerConfig(type="mlflow", server=nobody()), pauses=(60.0,), room=5)
    sender.open(facts)
    for step in range(1, 13):
        sender.put(Point(step, {"train_loss": 0.0}, 0.0))
    sender.settle(30)
    for step in range(13, 15):
        sender.put(Point(step, {"train_loss": 0.0}, 0.0))
    assert [point.step for point in sender._waiting] == [10, 11, 12, 13, 14]
    assert "Tracker mlflow: 9 points were dropped." in sender.warnings
    sender.finish(PUBLISHED)
    sender.join(30)


def test_wandb_tries_again_after_its_service_refused(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A run whose beginning failed must not hold the run's id against the next try."""
    from training_container.trackers import sending, wandb

    monkeypatch.setattr(wandb, "INIT_SECONDS", 0.5)
    monkeypatch.setattr(sending, "secret_of", lambda config: "k" * 40)
    notes: list[str] = []
    monkeypatch.setattr(Sender, "_note", lambda self, text: notes.append(text))
    trackers = begin({"type": "wandb", "project": "p", "server": nobody(), "secret": "s"}, pauses=(0.01,))
    log(trackers, 1)
    trackers.settle()
    trackers.end(PUBLISHED, 30)
    assert len(notes) >= 2
    assert not [note for note in notes if "in use" in note]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"kkkkkkkk" in path.read_bytes()]


def test_a_process_that_is_stopped_leaves_a_run_that_the_next_one_opens_again(
    begin: Begin, server: MLflowServer
) -> None:
    with begin(mlflow(server.address)) as first:
        log(first, 1, 2)
    assert server.run().info.status == "KILLED"
    second = begin(mlflow(server.address), step=2)
    log(second, 3)
    assert second.settle() == ()
    assert server.run().info.status == "RUNNING"
    second.__exit__(RuntimeError, None, None)
    assert server.run().info.status == "FAILED"
    assert [step for step, _ in server.history("train_loss")] == [1, 2, 3]


def test_logging_to_a_dead_tracker_costs_the_step_nothing_to_speak_of(facts: RunFacts) -> None:
    """Not a bound on time, but on what is done in the step: no call to the tracker, however many points wait."""
    called: list[str] = []

    class Watched(Sender):
        def _connect(self, facts: RunFacts) -> Any:
            called.append(threading.current_thread().name)
            raise ConnectionError

    sender = Watched(TrackerConfig(type="mlflow", server="http://gone"), pauses=(0.001,))
    sender.open(facts)
    for step in range(1000):
        sender.put(Point(step, {}, time.time()))
    sender.finish(PUBLISHED)
    sender.join(30)
    assert set(called) == {"mlflow tracker"}


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]"])
def test_the_metadata_services_are_never_called_whatever_the_config_says(begin: Begin, host: str) -> None:
    trackers = begin(mlflow(f"http://{host}/latest"))
    log(trackers, 1)
    said, dropped = trackers.settle()
    assert "link-local" in said
    assert "1 points were dropped" in dropped


def test_a_tracker_whose_library_is_not_in_the_image_is_left_out_with_a_warning(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "training_container.trackers.mlflow", raising=False)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    trackers = begin(mlflow("http://127.0.0.1:9"))
    log(trackers, 1)
    assert any("the image has no mlflow" in warning for warning in trackers.settle())


@pytest.mark.parametrize(
    "address", ["s3://spotune-artifacts/other/jobs", "file:///tmp", "mlflow-artifacts://other:80/"]
)
def test_a_server_does_not_choose_where_the_training_role_writes(begin: Begin, tmp_path: Path, address: str) -> None:
    report = tmp_path / "report.json"
    report.write_text("{}")
    server = MLflowServer(tmp_path / "mlflow", address)
    trackers = begin({"type": "mlflow", "server": server.address})
    assert trackers.settle() == ()
    trackers.end(Ending("published", {}, (report,)), 20)
    server.stop()
    assert server.run().info.status == "FINISHED"
    (said,) = trackers._senders[0].warnings
    assert "artefacts were not sent" in said
    assert address in said


def test_a_redirection_is_not_followed(begin: Begin, server: MLflowServer, tmp_path: Path) -> None:
    with redirecting(server.address) as address:
        trackers = begin({"type": "mlflow", "server": address})
        trackers.log(1, {"train_loss": 1.0})
        (said, _) = trackers.settle()
        trackers.end(PUBLISHED, 20)
    assert "302" in said
    assert server.tokens == set()
