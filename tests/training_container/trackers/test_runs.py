"""Each tracker's run: what it holds, and that an interruption leaves one run without doubles."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spotune.contracts.training import TrainingConfig
from tests.training_container.building import CONFIG
from tests.training_container.trackers.conftest import Begin
from tests.training_container.trackers.reading import events_in, offline_runs, scalars, wandb_history, wandb_records
from tests.training_container.trackers.servers import MLflowServer
from training_container.folders import Folders
from training_container.trackers.tracker import Ending
from training_container.trackers.trackers import Trackers

pytestmark = pytest.mark.torch

FIRST_PROCESS = """
import json, os, signal, sys
from pathlib import Path
from spotune.contracts.training import TrainingConfig
from training_container.folders import Folders
from training_container.trackers.trackers import Trackers

trackers = Trackers.of(TrainingConfig.model_validate_json(sys.argv[1]), Folders(Path(sys.argv[2])))
trackers.open(0)
for step in range(1, 7):
    trackers.log(step, {"train_loss": 1 / step})
print(trackers.settle(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
ENDING = Ending("published", {"tuned/eval_loss": 0.25}, ())


def log(trackers: Trackers, *steps: int) -> None:
    for step in steps:
        trackers.log(step, {"train_loss": 1 / step})


def begin_and_die(tracker: dict[str, Any], folder: Path) -> None:
    config = json.dumps(CONFIG | {"trackers": [tracker]})
    command = [sys.executable, "-c", FIRST_PROCESS, config, str(folder / "ml")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout, ended.returncode) == ("()\n", -signal.SIGKILL), ended.stderr


def killed_and_resumed(begin: Begin, tmp_path: Path, tracker: dict[str, Any]) -> None:
    """Steps 1 to 6, a process that is gone without a word, and another one that goes on from step 4."""
    begin_and_die(tracker, tmp_path)
    second = begin(tracker, step=4, limits={"max_runtime_seconds": 60, "publication_reserve_seconds": 5})
    log(second, 5, 6, 7)
    assert second.settle() == ()
    second.end(ENDING, 20)


EXPECTED = [(step, round(1 / step, 6)) for step in range(1, 8)]


def test_tensorboard_shows_one_curve_after_a_resume(begin: Begin, tmp_path: Path) -> None:
    killed_and_resumed(begin, tmp_path, {"type": "tensorboard"})
    folder = tmp_path / "ml" / "checkpoints" / "trackers" / "tensorboard"
    assert scalars(folder, "train_loss") == EXPECTED
    assert scalars(folder, "tuned/eval_loss") == [(7, 0.25)]
    tags = events_in(folder).Tags()["tensors"]
    assert "config/text_summary" in tags


def test_mlflow_continues_the_same_run_and_keeps_no_point_twice(
    begin: Begin, server: MLflowServer, tmp_path: Path
) -> None:
    killed_and_resumed(
        begin, tmp_path, {"type": "mlflow", "server": server.address, "project": "team", "tags": ["nightly"]}
    )
    assert [(step, round(value, 6)) for step, value in server.history("train_loss")] == EXPECTED
    run = server.run()
    assert run.info.status == "FINISHED"
    assert run.data.metrics["tuned/eval_loss"] == 0.25
    assert run.data.params["optimization.learning_rate"] == "0.01"
    assert run.data.params["limits.max_runtime_seconds"] == "3600"
    assert run.data.tags["spotune.model"] == "tiny/llama"
    assert "nightly" in run.data.tags


def test_an_offline_run_of_wandb_is_one_folder_with_all_points_after_a_resume(begin: Begin, tmp_path: Path) -> None:
    killed_and_resumed(begin, tmp_path, {"type": "wandb", "project": "p", "tags": ["nightly"]})
    (run,) = offline_runs(tmp_path / "ml" / "checkpoints" / "trackers" / "wandb")
    rows = wandb_history(run)
    assert [(row["_step"], round(row["train_loss"], 6)) for row in rows] == EXPECTED
    (described,) = [record.run for record in wandb_records(run) if record.WhichOneof("record_type") == "run"]
    assert (described.run_id, described.project, list(described.tags)) == ("ftjob-1", "p", ["nightly"])
    config = {item.key: json.loads(item.value_json) for item in described.config.update}
    assert config["optimization.learning_rate"] == 0.01


def test_a_retry_is_a_run_of_its_own_that_names_the_earlier_job(begin: Begin, server: MLflowServer) -> None:
    tracker = {"type": "mlflow", "server": server.address}
    log(first := begin(tracker), 1)
    first.end(Ending("failed", {}, ()), 20)
    log(second := begin(tracker, job_id="ftjob-2", retry_of="ftjob-1"), 1)
    second.end(ENDING, 20)
    assert server.run("ftjob-1").info.status == "FAILED"
    assert server.run("ftjob-2").data.tags["spotune.retry_of"] == "ftjob-1"


def test_sagemakers_managed_mlflow_gets_signed_calls_that_name_the_server(
    begin: Begin, server: MLflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    arn = "arn:aws:sagemaker:eu-west-1:123456789012:mlflow-tracking-server/team"
    monkeypatch.setenv("SAGEMAKER_MLFLOW_CUSTOM_ENDPOINT", server.address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    log(trackers := begin({"type": "mlflow", "server": arn}), 1, 2)
    assert trackers.settle() == ()
    trackers.end(ENDING, 20)
    assert [step for step, _ in server.history("train_loss")] == [1, 2]
    assert server.routed == {arn}
    (scope,) = {token.partition(",")[0].partition("/")[2].split("/", 1)[1] for token in server.tokens}
    assert scope == "eu-west-1/sagemaker-mlflow/aws4_request"


def test_a_published_job_hands_over_scores_report_and_card_and_its_own_files(
    root: Callable[..., Path], train: Callable[..., Any], server: MLflowServer
) -> None:
    trackers = [
        {"type": "mlflow", "server": server.address},
        {"type": "wandb", "project": "p"},
        {"type": "tensorboard"},
    ]
    folder = root(trackers=trackers)
    train(folder)
    report = json.loads((folder / "model" / "report.json").read_text())
    assert report["warnings"] == []
    run = server.run()
    assert [step for step, _ in server.history("train_loss")] == list(range(1, report["steps"] + 1))
    assert run.data.metrics["base/eval_loss"] == report["base"]["eval_loss"]
    assert run.data.metrics["tuned/eval_loss"] == report["tuned"]["eval_loss"]
    artefacts = server.folder / run.info.artifact_uri.removeprefix("mlflow-artifacts:/")
    assert {path.name for path in artefacts.iterdir()} >= {"report.json", "README.md"}
    own = folder / "model" / "trackers"
    assert len(scalars(own / "tensorboard", "learning_rate")) == report["steps"]
    (offline,) = offline_runs(own / "wandb")
    assert (offline / "files" / "report.json").read_bytes() == (folder / "model" / "report.json").read_bytes()


def test_only_the_first_process_of_a_run_has_trackers(tmp_path: Path) -> None:
    config = TrainingConfig.model_validate(CONFIG | {"trackers": [{"type": "tensorboard"}]})
    other = Trackers.of(config, Folders(tmp_path), first=False)
    other.open(0)
    log(other, 1)
    assert other.settle() == ()
    assert list(tmp_path.iterdir()) == []
