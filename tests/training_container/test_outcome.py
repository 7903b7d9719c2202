"""What a finished run leaves behind."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from spotune.contracts.checkpoint import RunState
from spotune.contracts.training import METRIC_DEFINITIONS, ExitCode, Progress, TrainingConfig
from tests.training_container.building import report_of, rows, write_rows
from training_container.checkpoints import Checkpoints
from training_container.corpus import collate, load_corpus, load_tokenizer
from training_container.device import evaluating, find_machine, fitting
from training_container.faults import TrainingFault
from training_container.folders import Folders
from training_container.inputs import read_inputs
from training_container.loading import load_base
from training_container.methods import adapt
from training_container.model import check_gradients, with_gradient
from training_container.objectives.supervised import loss_sum
from training_container.publication.folder import check_published
from training_container.stop import StopRequest

pytestmark = pytest.mark.torch

Root = Callable[..., Path]
Train = Callable[..., ExitCode]


class Seconds:
    """A clock that moves one second at each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def progress_of(root: Path) -> Progress:
    return Progress.model_validate_json((root / "checkpoints" / "progress.json").read_bytes())


@pytest.mark.proves(method="lora")
def test_training_teaches_what_the_rows_say_and_the_report_tells_it(taught: Path) -> None:
    report = report_of(taught)
    assert (report.base.exact_match, report.tuned.exact_match) == (0.0, 1.0)
    assert report.tuned.eval_loss < report.base.eval_loss
    assert (report.train_rows, report.eval_rows, report.generated_rows) == (40, 6, 3)
    assert len(report.samples) == 3
    assert report.samples[0].prompt == "user: Row 40"
    assert (report.samples[0].reference, report.samples[0].tuned) == ("yes", "yes")
    assert report.trained_tokens_per_epoch == 40 * len("yes.")
    assert report.steps == report.total_steps
    assert report.resumes == ()
    assert progress_of(taught).phase == "done"


def test_the_published_adapter_gives_the_loss_that_the_report_says(root: Root, train: Train) -> None:
    folder = root(data={"packing": False})
    train(folder)
    inputs = read_inputs(Folders(folder))
    tokenizer = load_tokenizer(inputs.model)
    model = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(inputs.model, dtype=torch.float32), folder / "model"
    )
    held_out = list(load_corpus(inputs, tokenizer).evaluation)
    batch = collate(held_out, tokenizer.pad_token_id)
    with evaluating(model):
        loss = float(loss_sum(model, batch)) / len(batch.targets)
    assert loss == pytest.approx(report_of(folder).tuned.eval_loss, rel=1e-5)


def test_the_best_weights_are_published_not_the_last(root: Root, train: Train) -> None:
    folder = root(
        optimization={"epochs": 6, "learning_rate": 0.3, "warmup_ratio": 0.0}, evaluation={"evaluations_per_epoch": 5}
    )
    train(folder)
    report = report_of(folder)
    assert report.best_step < report.steps
    best = load_file(folder / f"checkpoints/checkpoint-{report.best_step}/weights.safetensors")
    published = load_file(folder / "model" / "adapter_model.safetensors")
    same = {name.replace(".default", ""): tensor for name, tensor in best.items()}
    assert all(torch.equal(published[name], tensor) for name, tensor in same.items())


def test_the_model_folder_has_adapter_tokenizer_card_and_report(root: Root, train: Train) -> None:
    folder = root()
    train(folder)
    names = {path.name for path in (folder / "model").iterdir()}
    expected = {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "chat_template.jinja"}
    pictures = {"training.svg", "training.png"}
    assert expected | pictures | {"README.md", "report.json", "tokenizer_config.json"} == names
    assert json.loads((folder / "model/adapter_config.json").read_text())["base_model_name_or_path"] == "tiny/llama"
    assert (folder / "model/README.md").read_text().startswith("---\nbase_model: tiny/llama\n")


def test_published_weights_that_differ_from_the_trained_ones_are_not_declared(root: Root, train: Train) -> None:
    folder = root()
    train(folder)
    weights = load_file(folder / "model" / "adapter_model.safetensors")
    check_published(folder / "model", weights)
    name = next(iter(weights))
    weights[name] = weights[name] + 1
    with pytest.raises(RuntimeError, match=re.escape(name)):
        check_published(folder / "model", weights)


@pytest.mark.proves(method="full")
def test_full_fine_tuning_publishes_a_whole_model(root: Root, train: Train) -> None:
    folder = root(method="full", adapter=None)
    assert train(folder) == ExitCode.PUBLISHED
    tuned = AutoModelForCausalLM.from_pretrained(folder / "model")
    base = AutoModelForCausalLM.from_pretrained(read_inputs(Folders(folder)).model)
    assert not torch.equal(tuned.lm_head.weight, base.lm_head.weight)
    report = report_of(folder)
    assert report.trainable_parameters == report.total_parameters


@pytest.mark.proves(method="qlora", quantization="nf4")
def test_qlora_still_has_gradients_after_an_evaluation(root: Root) -> None:
    inputs = read_inputs(Folders(root(method="qlora", hardware={"precision": "bf16"})))
    config: TrainingConfig = inputs.config
    machine = find_machine(config.hardware)
    model = adapt(load_base(inputs.model, config, machine), config)
    assert any(isinstance(module, Linear4bit) for module in model.modules())
    tokenizer = load_tokenizer(inputs.model)
    batch = collate(list(load_corpus(inputs, tokenizer).evaluation), tokenizer.pad_token_id)
    with machine.autocast():
        with evaluating(model):
            loss_sum(model, batch)
        loss_sum(model, batch).backward()
    check_gradients(model, with_gradient(model))


def test_gradient_checkpointing_changes_memory_and_nothing_else(root: Root, train: Train) -> None:
    plain, saving = root("plain"), root("saving", hardware={"gradient_checkpointing": True})
    train(plain)
    train(saving)
    published = [load_file(folder / "model" / "adapter_model.safetensors") for folder in (plain, saving)]
    assert all(torch.allclose(published[0][name], published[1][name], atol=1e-5) for name in published[0])


def test_the_time_limit_ends_training_early_and_publishes_the_best(root: Root, train: Train) -> None:
    limits = {"max_runtime_seconds": 150, "publication_reserve_seconds": 50}
    folder = root(limits=limits, optimization={"epochs": 50}, checkpoint={"interval_seconds": 30})
    clock = Seconds()
    assert train(folder, clock=clock) == ExitCode.PUBLISHED
    report = report_of(folder)
    assert report.stopped_early == "time"
    assert 0 < report.steps < report.total_steps
    assert clock.now <= 150
    assert report.tuned.eval_loss < report.base.eval_loss


def test_the_time_limit_counts_what_earlier_processes_of_the_training_job_took(
    root: Root, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = root()
    monkeypatch.setenv("TRAINING_JOB_NAME", "ftjob-1-1")
    (folder / "checkpoints").mkdir()
    spent = Progress(phase="training", elapsed_seconds=3599.0)
    (folder / "checkpoints" / "progress.json").write_text(spent.model_dump_json())
    (folder / "checkpoints" / "history.json").write_text('{"training_job": "ftjob-1-1"}')
    with pytest.raises(TrainingFault) as caught:
        train(folder)
    assert caught.value.code == "runtime_too_short"
    (folder / "checkpoints" / "progress.json").write_text(spent.model_dump_json())
    monkeypatch.setenv("TRAINING_JOB_NAME", "ftjob-1-2")
    assert train(folder) == ExitCode.PUBLISHED


class Interrupting(Seconds):
    """Takes the machine away at a second of its own."""

    def __init__(self, at: float) -> None:
        super().__init__()
        self.stop = StopRequest()
        self._at = at

    def __call__(self) -> float:
        if super().__call__() >= self._at:
            self.stop.ask()
        return self.now


def test_the_time_limit_counts_what_each_launch_took_before_its_container(
    root: Root, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINING_JOB_NAME", "ftjob-1-1")
    unseen, limit = 200, 1050
    limits = {"max_runtime_seconds": limit, "publication_reserve_seconds": 50, "unseen_seconds": unseen}
    folder = root(limits=limits, optimization={"epochs": 50}, checkpoint={"interval_seconds": 30})
    billed = 0.0
    for _ in range(3):
        machine = Interrupting(at=50)
        assert train(folder, clock=machine, stop=machine.stop) == ExitCode.STOPPED
        billed += unseen + machine.now
    clock = Seconds()
    assert train(folder, clock=clock) == ExitCode.PUBLISHED
    assert billed + unseen + clock.now <= limit
    report = report_of(folder)
    assert report.stopped_early == "time"
    assert report.tuned.eval_loss < report.base.eval_loss
    assert report.elapsed_seconds < limit - 4 * unseen, "it says what the container saw"


def test_launches_that_leave_no_time_for_a_step_are_told(root: Root, train: Train) -> None:
    limits = {"max_runtime_seconds": 600, "publication_reserve_seconds": 50, "unseen_seconds": 590}
    with pytest.raises(TrainingFault) as caught:
        train(root(limits=limits), clock=Seconds())
    assert caught.value.code == "runtime_too_short"
    assert "590 s of them by plan before the container ran" in caught.value.evidence


def test_checkpoints_are_written_by_time(root: Root, train: Train) -> None:
    folder = root(checkpoint={"interval_seconds": 10_000, "keep": 100}, optimization={"epochs": 3})
    train(folder)
    seldom = len(list((folder / "checkpoints").glob("checkpoint-*")))
    folder = root("often", checkpoint={"interval_seconds": 20, "keep": 100}, optimization={"epochs": 3})
    train(folder, clock=Seconds())
    assert len(list((folder / "checkpoints").glob("checkpoint-*"))) > seldom


def test_a_slow_disk_is_told_in_the_log_and_in_the_report(
    root: Root, train: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock, save = Seconds(), Checkpoints.save

    def slow(checkpoints: Checkpoints, state: RunState, files: Mapping[str, Any]) -> None:
        clock.now += 100
        save(checkpoints, state, files)

    monkeypatch.setattr(Checkpoints, "save", slow)
    folder = root(checkpoint={"interval_seconds": 20}, limits={"max_runtime_seconds": 1_000_000})
    train(folder, clock=clock)
    assert '"save_interval_seconds": 50.0}' in capsys.readouterr().out
    assert any("up to 50 s apart instead of 20 s" in warning for warning in report_of(folder).warnings)


def test_stdout_has_a_line_that_the_metric_definitions_match(
    root: Root, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    train(root())
    output = capsys.readouterr().out
    for definition in METRIC_DEFINITIONS:
        found = re.search(definition["Regex"], output)
        assert found is not None
        assert float(found.group(1)) > 0


@pytest.mark.parametrize(
    "content",
    [
        [{"instruction": f"Say {number}", "input": "", "output": str(number)} for number in range(20)],
        [{"prompt": f"Say {number}: ", "completion": str(number)} for number in range(20)],
        [{"text": f"Number {number} comes after {number - 1}."} for number in range(20)],
    ],
    ids=["instruction", "completion", "text"],
)
def test_every_row_format_trains(root: Root, train: Train, content: list[dict[str, str]]) -> None:
    folder = root()
    write_rows(folder / "input/data/training/train.jsonl", content)
    assert train(folder) == ExitCode.PUBLISHED
    report = report_of(folder)
    assert report.tuned.eval_loss < report.base.eval_loss
    assert (report.generated_rows > 0) == ("text" not in content[0])


def test_where_memory_ends_the_batch_is_halved_until_it_fits() -> None:
    tried = []

    def work(size: int) -> str:
        tried.append(size)
        if size > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return "done"

    assert fitting(12, work) == ("done", 3)
    assert tried == [12, 6, 3]
    with pytest.raises(TrainingFault) as caught:
        fitting(4, lambda size: work(size + 10))
    assert caught.value.code == "out_of_memory"


def test_what_a_cut_short_publication_left_is_not_published_again(root: Root, train: Train) -> None:
    folder = root()
    (folder / "model" / "old").mkdir(parents=True)
    (folder / "model" / "adapter_model.safetensors").write_bytes(b"half")
    assert train(folder) == ExitCode.PUBLISHED
    assert not (folder / "model" / "old").exists()


def test_rows_of_the_training_file_are_all_counted(root: Root, train: Train) -> None:
    folder = root()
    train(folder)
    report = report_of(folder)
    assert report.train_rows + report.eval_rows == len(rows(30))
