"""Invariant 5 and 6: a resumed run equals the uninterrupted one, and never stands on a damaged checkpoint."""

from __future__ import annotations

import json
import math
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from spotune.contracts.training import ExitCode, Progress
from tests.training_container.building import StopAfter, report_of, start, wait_for_step
from training_container.accumulation import Accumulation
from training_container.faults import TrainingFault
from training_container.folders import Folders
from training_container.trainer import Trainer

pytestmark = pytest.mark.torch

Root = Callable[..., Path]
Train = Callable[..., ExitCode]
DEADLINE = 120


def weights(root: Path) -> dict[str, torch.Tensor]:
    return load_file(root / "model" / "adapter_model.safetensors")


def last_state(root: Path) -> dict[str, torch.Tensor]:
    newest = max((root / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    return {**load_file(newest / "weights.safetensors"), **tensors_in(torch.load(newest / "optimizer.pt"), "optimizer")}


def newest_step(root: Path) -> int:
    return max(int(path.name.rpartition("-")[2]) for path in (root / "checkpoints").glob("checkpoint-*"))


def tensors_in(value: object, path: str) -> dict[str, torch.Tensor]:
    if isinstance(value, dict):
        return {name: found for key in value for name, found in tensors_in(value[key], f"{path}.{key}").items()}
    return {path: value} if isinstance(value, torch.Tensor) else {}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.proves(method="lora")
def test_a_run_killed_at_any_step_and_resumed_makes_the_same_weights_bit_for_bit(root: Root, train: Train) -> None:
    whole, killed = root("whole"), root("killed")
    assert train(whole) == ExitCode.PUBLISHED
    step = random.randint(1, report_of(whole).total_steps - 3)
    process = start(killed)
    wait_for_step(process, step)
    process.kill()
    process.wait(DEADLINE)
    assert not (killed / "model").exists()
    process = start(killed)
    process.communicate(timeout=DEADLINE)
    assert process.returncode == ExitCode.PUBLISHED
    assert_same(weights(killed), weights(whole))
    assert_same(last_state(killed), last_state(whole))
    report = report_of(killed)
    assert [resume.step for resume in report.resumes][-1] >= step - 1
    assert report.tuned == report_of(whole).tuned
    assert report.base == report_of(whole).base


def test_sigterm_ends_with_exit_code_3_and_a_checkpoint_that_a_resume_continues_exactly(
    root: Root, train: Train
) -> None:
    whole, stopped = root("whole"), root("stopped", checkpoint={"interval_seconds": 3600})
    train(whole)
    process = start(stopped)
    wait_for_step(process, 2)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=DEADLINE)
    assert process.returncode == ExitCode.STOPPED
    progress = Progress.model_validate_json((stopped / "checkpoints" / "progress.json").read_bytes())
    assert progress.phase == "stopped"
    assert (stopped / "checkpoints" / f"checkpoint-{progress.step}" / "manifest.json").exists()
    assert train(stopped) == ExitCode.PUBLISHED
    assert_same(weights(stopped), weights(whole))
    assert report_of(stopped).lost_steps == 0


@pytest.mark.parametrize("looks", range(1, 28, 5))
def test_a_stop_during_evaluation_generation_or_training_loses_nothing(root: Root, train: Train, looks: int) -> None:
    whole, stopped = root("whole"), root("stopped", checkpoint={"interval_seconds": 3600})
    train(whole)
    assert train(stopped, stop=StopAfter(looks)) == ExitCode.STOPPED
    assert train(stopped) == ExitCode.PUBLISHED
    assert_same(weights(stopped), weights(whole))
    assert report_of(stopped).lost_steps == 0


@pytest.mark.proves(method="qlora", quantization="nf4")
@pytest.mark.proves(method="full")
def test_qlora_and_full_resume_exactly_too(root: Root, train: Train) -> None:
    # The optimizer keeps 8-bit states from 4,096 elements, which here the embedding alone has.
    eight_bit = {"optimization": {"optimizer": "paged_adamw_8bit"}}
    for method, change in {"qlora": eight_bit, "full": {"adapter": None, **eight_bit}}.items():
        whole, stopped = (root(f"{method}-{name}", method=method, **change) for name in ("whole", "stopped"))
        train(whole)
        assert train(stopped, stop=StopAfter(14)) == ExitCode.STOPPED
        assert train(stopped) == ExitCode.PUBLISHED
        assert_same(last_state(stopped), last_state(whole))


def test_a_corrupt_checkpoint_is_skipped_with_its_reason_and_the_one_before_it_used(root: Root, train: Train) -> None:
    whole, damaged = root("whole"), root("damaged")
    train(whole)
    assert train(damaged, stop=StopAfter(12)) == ExitCode.STOPPED
    folders = sorted((damaged / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    older, newest = folders[-2:]
    content = bytearray((newest / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (newest / "weights.safetensors").write_bytes(content)
    assert train(damaged) == ExitCode.PUBLISHED
    report = report_of(damaged)
    assert report.resumes[-1].step == int(older.name.rpartition("-")[2])
    assert newest.name in report.resumes[-1].skipped[0]
    assert report.lost_steps == 1
    assert report.lost_seconds > 0
    assert_same(weights(damaged), weights(whole))


def test_with_no_usable_checkpoint_the_run_begins_again(root: Root, train: Train) -> None:
    whole, damaged = root("whole"), root("damaged")
    train(whole)
    train(damaged, stop=StopAfter(12))
    for manifest in (damaged / "checkpoints").glob("checkpoint-*/manifest.json"):
        manifest.unlink()
    assert train(damaged) == ExitCode.PUBLISHED
    assert report_of(damaged).resumes[-1].step == 0
    assert_same(weights(damaged), weights(whole))


def test_a_checkpoint_of_another_config_is_refused_with_the_fields_that_differ(root: Root, train: Train) -> None:
    folder = root()
    train(folder, stop=StopAfter(12))
    path = Folders(folder).config
    config = json.loads(path.read_text())
    config["optimization"]["learning_rate"] = 0.5
    path.write_text(json.dumps(config))
    with pytest.raises(TrainingFault) as caught:
        train(folder)
    assert caught.value.code == "checkpoint_of_another_config"
    assert caught.value.evidence == "optimization.learning_rate: 0.01 -> 0.5"


def test_a_checkpoint_over_other_weights_of_the_same_name_is_refused(root: Root, train: Train) -> None:
    folder = root()
    train(folder, stop=StopAfter(12))
    link = Folders(folder).channel("model")
    shared = link.resolve()
    link.unlink()
    shutil.copytree(shared, link)
    (path,) = link.glob("*.safetensors")
    save_file({name: tensor * 1.01 for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})
    with pytest.raises(TrainingFault) as caught:
        train(folder)
    assert caught.value.code == "checkpoint_of_another_model"


def test_another_job_goes_on_from_a_copy_of_the_newest_checkpoint_and_the_best(root: Root, train: Train) -> None:
    """What a retry begins with: no progress.json, and a config that names another job."""
    whole, stopped, retry = root("whole"), root("stopped"), root("retry", job_id="ftjob-2")
    train(whole)
    train(stopped, stop=StopAfter(12))
    source, target = stopped / "checkpoints", retry / "checkpoints"
    newest = max(source.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    state = json.loads((newest / "state.json").read_text())["state"]
    for step in {state["step"], state["best_step"]} - {None}:
        shutil.copytree(source / f"checkpoint-{step}", target / f"checkpoint-{step}")
    for name in ("base_scores.json", "history.json"):
        shutil.copy(source / name, target / name)
    assert train(retry) == ExitCode.PUBLISHED
    assert_same(weights(retry), weights(whole))
    report = report_of(retry)
    assert report.job_id == "ftjob-2"
    assert [resume.step for resume in report.resumes] == [state["step"]]
    assert (report.lost_steps, report.base) == (0, report_of(whole).base)
    assert Progress.model_validate_json(Folders(retry).progress.read_bytes()).resumed_from_step == state["step"]


def test_another_micro_batch_or_time_limit_does_not_stop_a_resume(root: Root, train: Train) -> None:
    folder = root()
    train(folder, stop=StopAfter(12))
    path = Folders(folder).config
    config = json.loads(path.read_text())
    config["hardware"]["micro_batch_size"] = 2
    config["limits"]["max_runtime_seconds"] = 7200
    path.write_text(json.dumps(config))
    assert train(folder) == ExitCode.PUBLISHED


def test_a_run_that_gives_up_gives_up_at_the_same_step_when_it_is_resumed(root: Root, train: Train) -> None:
    groups = {
        "optimization": {"epochs": 8, "learning_rate": 0.3, "warmup_ratio": 0.0},
        "evaluation": {"evaluations_per_epoch": 3, "early_stopping_patience": 2},
    }
    whole, stopped = root("whole", **groups), root("stopped", **groups)
    assert train(whole) == ExitCode.PUBLISHED
    report = report_of(whole)
    assert report.stopped_early == "no_improvement"
    assert report.best_step < report.steps < report.total_steps
    assert train(stopped, stop=StopAfter(report.steps)) == ExitCode.STOPPED
    assert newest_step(stopped) < report.steps
    assert train(stopped) == ExitCode.PUBLISHED
    again = report_of(stopped)
    assert (again.stopped_early, again.steps, again.best_step) == ("no_improvement", report.steps, report.best_step)
    shutil.rmtree(stopped / "model")
    assert train(stopped) == ExitCode.PUBLISHED  # killed after the last step: there is nothing left to train
    assert report_of(stopped).steps == report.steps


def test_the_base_is_scored_once_however_often_the_run_is_resumed(root: Root, train: Train) -> None:
    folder = root()
    train(folder, stop=StopAfter(12))
    scores = folder / "checkpoints" / "base_scores.json"
    known = json.loads(scores.read_text())
    known["measured"]["loss"] = 123.0
    scores.write_text(json.dumps(known))
    config = json.loads(Folders(folder).config.read_text())
    config["evaluation"]["early_stopping_patience"] = 100  # which a retry may change
    Folders(folder).config.write_text(json.dumps(config))
    train(folder)
    assert report_of(folder).base.eval_loss == 123.0


def test_damaged_notes_of_an_earlier_process_stop_nothing(root: Root, train: Train) -> None:
    whole, damaged = root("whole"), root("damaged")
    train(whole)
    train(damaged, stop=StopAfter(12))
    for name in ("progress.json", "history.json", "base_scores.json"):
        (damaged / "checkpoints" / name).write_text('{"phase": "trai')
    assert train(damaged) == ExitCode.PUBLISHED
    assert_same(weights(damaged), weights(whole))


def test_a_loss_that_is_not_finite_leaves_the_checkpoints_of_before_and_publishes_nothing(
    root: Root, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, poisoned = root("whole"), root("poisoned")
    train(whole)
    gradients = Accumulation.gradients

    def not_finite(of: Accumulation, step: int, *arguments: Any) -> float:
        loss = gradients(of, step, *arguments)
        if step < 5:
            return loss
        for parameter in of._engine.parameters.values():
            parameter.grad.fill_(math.nan)
        return math.nan

    with monkeypatch.context() as harmed:
        harmed.setattr(Accumulation, "gradients", not_finite)
        with pytest.raises(TrainingFault) as caught:
            train(poisoned)
    assert caught.value.code == "loss_not_finite"
    assert not (poisoned / "model").exists()
    assert (poisoned / "checkpoints" / "checkpoint-5").is_dir()
    assert not (poisoned / "checkpoints" / "checkpoint-6").exists()
    assert train(poisoned) == ExitCode.PUBLISHED
    assert report_of(poisoned).resumes[-1].step == 5
    assert_same(weights(poisoned), weights(whole))


def test_weights_whose_held_out_loss_is_not_finite_are_neither_kept_nor_published(
    root: Root, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned = root("poisoned", optimization={"epochs": 1}, checkpoint={"interval_seconds": 3600})
    update = Trainer._update

    def ruins(trainer: Trainer, loss: float, rate: float) -> None:
        update(trainer, loss, rate)
        if trainer.state.step + 1 == trainer.order.total_steps:  # no training loss follows that would tell
            with torch.no_grad():
                next(iter(trainer._engine.parameters.values())).fill_(math.nan)

    monkeypatch.setattr(Trainer, "_update", ruins)
    with pytest.raises(TrainingFault) as caught:
        train(poisoned)
    assert caught.value.code == "eval_loss_not_finite"
    assert not list((poisoned / "checkpoints").glob("checkpoint-*"))
    assert not (poisoned / "model").exists()
