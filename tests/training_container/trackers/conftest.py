from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spotune.contracts.training import TrackerConfig, TrainingConfig
from tests.training_container.building import CONFIG
from tests.training_container.trackers.servers import MLflowServer
from training_container.folders import Folders
from training_container.trackers.sending import Sender
from training_container.trackers.tracker import RunFacts
from training_container.trackers.trackers import Trackers


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is written outside the test's folder, and MLflow's file store may be used."""
    for name in ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name in ("MLFLOW_TRACKING_URI", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MLflowServer]:
    made = MLflowServer(tmp_path / "mlruns")
    yield made
    made.stop()


Begin = Callable[..., Trackers]


@pytest.fixture
def begin(tmp_path: Path) -> Begin:
    """The trackers of one process of job ftjob-1, opened at `step`."""

    def opened(
        *trackers: dict[str, Any], step: int = 0, pauses: tuple[float, ...] = (0.02,), **changes: Any
    ) -> Trackers:
        config = TrainingConfig.model_validate(CONFIG | {"trackers": trackers} | changes)
        senders = [Sender(TrackerConfig.model_validate(one), pauses=pauses) for one in trackers]
        made = Trackers(config, Folders(tmp_path / "ml"), senders)
        made.open(step)
        return made

    return opened


@pytest.fixture
def facts(tmp_path: Path) -> RunFacts:
    return RunFacts(config=TrainingConfig.model_validate(CONFIG), step=0, folder=tmp_path / "own")
