"""The champion beside the base and the tuned model: the same rows, the same prompts, and the right sign."""

from __future__ import annotations

import gc
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from spotune.contracts.checkpoint import CHAMPION_SCORES_NAME
from spotune.contracts.request import Method
from spotune.contracts.training import ExitCode, Progress
from tests.training_container import kills
from tests.training_container.building import StopAfter, chat, report_of, write_rows
from tests.training_container.reigning import GOLDEN, NAME, die_while_answering, die_while_scoring_the_base, kept
from tests.training_container.test_outcome import Seconds
from training_container import job
from training_container.evaluation.comparison import scores
from training_container.faults import TrainingFault
from training_container.folders import Folders
from training_container.inputs import read_inputs
from training_container.progress import Reporter
from training_container.run import Run
from training_container.scoring import ask_guests, champion_scores
from training_container.stop import StopRequest
from training_container.trackers.trackers import Trackers

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("without_plot")]

Make = Callable[..., Path]
Train = Callable[..., ExitCode]
Champions = Callable[[Method], Path]
LESSON: dict[str, Any] = {
    "optimization": {"epochs": 12, "learning_rate": 0.02, "global_batch_size": 2},
    "adapter": {"rank": 16, "alpha": 32},
    "data": {"packing": True},
}


def lesson(make: Make, name: str, answer: str, champion: Path | None = None, **more: Any) -> Path:
    """A job that learns to give one answer to everything."""
    root = make(name, "lora", champion, **{**LESSON, **more})
    write_rows(root / "input/data/training/train.jsonl", [chat(f"Row {number}", answer) for number in range(40)])
    return root


def prepared(root: Path) -> Run:
    """A run of which everything is there but the model."""
    inputs = read_inputs(Folders(root))
    with Trackers.of(inputs.config, inputs.folders, first=True) as trackers:
        reporter = Reporter(inputs.folders, Seconds(), 0.0)
        return job._prepare(inputs, StopRequest(), reporter, trackers, Seconds())


def models_in_memory() -> int:
    gc.collect()
    return sum(type(each) is LlamaForCausalLM for each in gc.get_objects())


@pytest.mark.parametrize("method", [method for method in get_args(Method) if method != "qlora"])
def test_a_champion_has_the_scores_that_it_had_when_it_was_trained(
    make: Make, champions: Champions, method: Method
) -> None:
    this = prepared(make("job", "lora", champions(method)))
    ask_guests(this)
    known = champion_scores(this)
    assert known is not None
    found, before = scores(this.evaluator.held_out, known.measured), report_of(champions(method))
    if method == "pissa":  # published as a difference, whose products are rounded otherwise
        assert found.eval_loss == pytest.approx(before.tuned.eval_loss, rel=1e-5)
    else:
        assert found == before.tuned
    assert known.measured.golden == tuple(each.tuned for each in before.golden)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_champion_is_gone_when_it_has_been_measured(make: Make, champions: Champions, method: Method) -> None:
    this = prepared(make("job", "lora", champions(method)))
    before = models_in_memory()
    ask_guests(this)
    assert champion_scores(this) is not None
    assert models_in_memory() <= before


def test_the_report_has_the_champion_beside_base_and_tuned(make: Make, train: Train, champions: Champions) -> None:
    root = make("job", "dora", champions("lora"))
    assert train(root) == ExitCode.PUBLISHED
    report, before = report_of(root), report_of(champions("lora"))
    assert report.champion == before.tuned
    assert report.base == before.base
    assert report.began_from == "base"
    loss = next(each for each in report.against_champion if each.metric == "eval_loss")
    assert (loss.base, loss.tuned) == (before.tuned.eval_loss, report.tuned.eval_loss)
    assert [part.name for part in report.slices] == ["new", "old"]
    assert all(part.against_champion for part in report.slices)
    assert not any("champion was trained over" in warning for warning in report.warnings)


def test_virtual_tokens_stand_before_each_row_where_the_others_rows_are_packed(
    make: Make, train: Train, champions: Champions
) -> None:
    root = make("job", "lora", champions("prompt"), data={"packing": True})
    assert train(root) == ExitCode.PUBLISHED
    report, before = report_of(root), report_of(champions("prompt"))
    assert report.champion is not None
    assert report.champion.eval_loss == pytest.approx(before.tuned.eval_loss, rel=1e-5)
    for part, known in zip(report.slices, before.slices, strict=True):
        assert part.against_champion[0].base == pytest.approx(known.comparisons[0].tuned, rel=1e-5)


def test_a_champion_is_measured_over_the_base_model_as_it_is_loaded_here(
    make: Make, train: Train, champions: Champions
) -> None:
    over_nf4 = make("qlora", "qlora", champions("qlora"))
    assert train(over_nf4) == ExitCode.PUBLISHED
    assert report_of(over_nf4).champion == report_of(champions("qlora")).tuned
    over_all = make("lora", "lora", champions("qlora"))
    assert train(over_all) == ExitCode.PUBLISHED
    report = report_of(over_all)
    assert report.champion != report_of(champions("qlora")).tuned
    assert [
        warning
        for warning in report.warnings
        if "quantization nf4 and measured over one of quantization none" in warning
    ]


def test_preferences_are_measured_from_the_base_model_of_both(make: Make, train: Train) -> None:
    preference = [{"prompt": f"Row {n}", "chosen": "yes", "rejected": "no"} for n in range(10)]
    jobs: list[Path] = []
    for name in ("champion", "job"):
        root = make(name, "lora", *jobs, objective={"type": "dpo"})
        for side in ("training/train.jsonl", "validation/heldout.jsonl"):
            write_rows(root / "input/data" / side, preference[: 10 if "train" in side else 6])
        assert train(root) == ExitCode.PUBLISHED
        jobs.append(root)
    champion, report = report_of(jobs[0]), report_of(jobs[1])
    assert report.champion == champion.tuned
    assert report.champion is not None
    assert report.champion.preference_margin not in (None, 0.0)  # which it would be, measured from itself
    assert {each.metric for each in report.against_champion} >= {"preference_margin", "preference_accuracy"}


def test_what_is_worse_than_the_champion_is_said_to_be_worse_and_what_is_better_better(
    make: Make, train: Train, taught: Path
) -> None:
    bad = lesson(make, "bad", "no way", taught, start=True)
    assert train(bad) == ExitCode.PUBLISHED
    better = lesson(make, "better", "yes", bad)
    assert train(better) == ExitCode.PUBLISHED
    fallen, risen = report_of(bad), report_of(better)
    for report, sign in ((fallen, 1), (risen, -1)):
        found = {each.metric: each for each in report.against_champion}
        assert found["eval_loss"].sure
        assert found["eval_loss"].difference * sign > 0
        assert found["exact_match"].difference == -sign
        assert {part.against_champion[0].worse for part in report.slices} == {sign > 0}
    assert [each.tuned_met for each in risen.golden] == [True, False]
    assert [(each.base_met, each.champion_met, each.tuned_met) for each in fallen.golden] == [
        (False, True, False),
        (False, False, False),
    ]
    assert (fallen.golden[0].expected, fallen.golden[0].champion) == ("yes", "yes")
    assert {(each.slice, each.comparison.metric) for each in fallen.forgotten} >= {
        ("", "eval_loss"),
        ("new", "eval_loss"),
        ("old", "eval_loss"),
    }
    assert risen.began_from == "base"
    assert not [each for each in risen.forgotten if each.comparison.metric == "eval_loss"]
    (worse,) = [warning for warning in fallen.warnings if warning.startswith(f"Worse than the champion {NAME}")]
    assert "slice old in loss" in worse
    assert any("replay" in warning for warning in fallen.warnings)
    card = (bad / "model" / "README.md").read_text()
    assert f"## Against the champion `{NAME}`" in card
    assert "## Worse than the champion that training began from" in card
    assert "base: 0 of 2 met, tuned: 0 of 2 met, champion: 1 of 2 met" in card


def test_a_golden_shape_is_met_by_a_model_that_answers_so(make: Make, train: Train) -> None:
    root = lesson(make, "json", "[]")
    write_rows(root / "input/data/validation/heldout.jsonl", [chat(f"Row {number}", "[]") for number in range(50, 56)])
    assert train(root) == ExitCode.PUBLISHED
    report = report_of(root)
    assert [each.tuned_met for each in report.golden] == [False, True]
    assert [each.base_met for each in report.golden] == [False, False]
    assert report.golden[1].expected == json.dumps(GOLDEN[1]["expected"])
    assert [each.champion for each in report.golden] == [None, None]
    assert len(report.golden[0].base) > len(report.samples[0].base)  # they have room of their own


def test_a_kill_while_the_champion_or_the_base_is_scored_changes_nothing(make: Make, champions: Champions) -> None:
    whole, killed = make("whole", "lora", champions("lora")), make("killed", "lora", champions("lora"))
    assert kills.train(whole, looks=True) == ExitCode.PUBLISHED
    scores = Folders(killed).checkpoints / CHAMPION_SCORES_NAME
    assert kills.train(killed, looks=True, prepare=die_while_answering) == -signal.SIGKILL
    assert Progress.model_validate_json(Folders(killed).progress.read_bytes()).phase == "evaluating_champion"
    assert not scores.exists()
    assert kills.train(killed, looks=True, prepare=die_while_scoring_the_base) == -signal.SIGKILL
    assert Progress.model_validate_json(Folders(killed).progress.read_bytes()).phase == "evaluating_base"
    assert kept(killed, scores.name)["measured"] == kept(whole, scores.name)["measured"]
    known = kept(killed, scores.name)
    scores.write_text(json.dumps({**known, "measured": {**known["measured"], "loss": 123.0}}))
    assert kills.train(killed, looks=True) == ExitCode.PUBLISHED
    found, expected = report_of(killed), report_of(whole)
    assert found.champion is not None
    assert found.champion.eval_loss == 123.0  # it was not measured again
    assert (found.base, found.tuned, found.golden) == (expected.base, expected.tuned, expected.golden)


def test_other_files_or_other_prompts_are_measured_anew(make: Make, train: Train, champions: Champions) -> None:
    root = make("job", "lora", champions("lora"))
    assert train(root) == ExitCode.PUBLISHED
    before = kept(root, CHAMPION_SCORES_NAME)
    write_rows(root / "input/data/golden/golden.jsonl", [*GOLDEN, GOLDEN[0]])
    assert train(root) == ExitCode.PUBLISHED
    assert len(report_of(root).golden) == 3
    channel = root / "input/data/champion"
    channel.unlink()
    channel.symlink_to(champions("ia3") / "model")
    assert train(root) == ExitCode.PUBLISHED
    after = kept(root, CHAMPION_SCORES_NAME)
    assert after["measured"]["loss"] != before["measured"]["loss"]
    assert report_of(root).champion == report_of(champions("ia3")).tuned


@pytest.mark.parametrize("looks", [1, 3, 6])
def test_a_stop_while_the_champion_is_scored_leaves_it_at_once(
    make: Make, train: Train, champions: Champions, looks: int
) -> None:
    root = make("job", "lora", champions("lora"))
    assert train(root, stop=StopAfter(looks)) == ExitCode.STOPPED
    assert not (Folders(root).checkpoints / CHAMPION_SCORES_NAME).exists()
    assert train(root) == ExitCode.PUBLISHED
    assert report_of(root).champion == report_of(champions("lora")).tuned


@pytest.mark.parametrize("unseen", [0, 600])
def test_a_champion_that_takes_the_time_of_training_is_a_fault(
    make: Make, train: Train, champions: Champions, unseen: int
) -> None:
    limits = {"max_runtime_seconds": 25 + unseen, "publication_reserve_seconds": 10, "unseen_seconds": unseen}
    with pytest.raises(TrainingFault) as caught:
        train(make("job", "lora", champions("lora"), limits=limits), clock=Seconds())
    assert caught.value.code == "runtime_too_short"
    assert "after the champion was scored" in caught.value.message


def as_pickle(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def as_other_base(folder: Path) -> None:
    change(folder / "report.json", base_sha256="0" * 64)


def without_weights(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()


def with_half_the_layers(folder: Path) -> None:
    weights = load_file(folder / "adapter_model.safetensors")
    save_file({name: weights[name] for name in list(weights)[::2]}, folder / "adapter_model.safetensors")


def of_other_widths(folder: Path) -> None:
    weights = load_file(folder / "adapter_model.safetensors")
    wider = {name: tensor.repeat(1, 2) if "lora_A" in name else tensor for name, tensor in weights.items()}
    save_file(wider, folder / "adapter_model.safetensors")


def of_unknown_type(folder: Path) -> None:
    change(folder / "adapter_config.json", peft_type="VERA")


def cut_short(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def of_no_number(folder: Path) -> None:
    weights = load_file(folder / "adapter_model.safetensors")
    save_file({name: tensor * float("nan") for name, tensor in weights.items()}, folder / "adapter_model.safetensors")


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (as_pickle, "pickled_champion"),
        (as_other_base, "champion_of_another_base"),
        (without_weights, "champion_incomplete"),
        (with_half_the_layers, "champion_unfit"),
        (of_other_widths, "champion_unfit"),
        (of_unknown_type, "champion_unfit"),
        (cut_short, "champion_unfit"),
        (of_no_number, "champion_unfit"),
    ],
)
def test_a_champion_that_does_not_fit_is_refused_before_anything_is_trained(
    make: Make, train: Train, champions: Champions, damage: Callable[[Path], None], code: str
) -> None:
    root = make("job", "lora", champions("lora"))
    channel = root / "input/data/champion"
    channel.unlink()
    shutil.copytree(champions("lora") / "model", channel)
    damage(channel)
    with pytest.raises(TrainingFault) as caught:
        train(root)
    assert caught.value.code == code
    assert NAME in caught.value.message or code in ("pickled_champion", "champion_incomplete")
    assert not list(Folders(root).checkpoints.glob("checkpoint-*"))


def test_a_report_that_does_not_tell_its_base_says_nothing_of_its_quantization(
    make: Make, champions: Champions
) -> None:
    root = make("job", "lora", champions("lora"))
    channel = root / "input/data/champion"
    channel.unlink()
    shutil.copytree(champions("lora") / "model", channel)
    for fingerprint, warnings in ((prepared(root).checkpoints.base, 1), ("", 0)):
        change(channel / "report.json", base_sha256=fingerprint, quantization="int8")
        champion = prepared(root).champion
        assert champion is not None
        assert len(champion.warnings) == warnings


def test_whole_weights_of_another_shape_are_refused(make: Make, train: Train, champions: Champions) -> None:
    root = make("job", "lora", champions("full"))
    channel = root / "input/data/champion"
    channel.unlink()
    shutil.copytree(champions("full") / "model", channel)
    change(channel / "config.json", num_hidden_layers=3)
    with pytest.raises(TrainingFault) as caught:
        train(root)
    assert caught.value.code == "champion_unfit"
    change(channel / "config.json", num_hidden_layers=2, intermediate_size=32)
    with pytest.raises(TrainingFault) as caught:
        train(root)
    assert caught.value.code == "champion_unfit"


def test_virtual_tokens_that_cannot_be_spread_are_refused_by_name(
    make: Make, train: Train, champions: Champions
) -> None:
    with pytest.raises(TrainingFault) as caught:
        train(make("job", "lora", champions("prompt"), hardware={"sharding": "fsdp"}))
    assert caught.value.code == "champion_not_sharded"


@pytest.mark.parametrize("channel", ["champion", "golden"])
def test_a_channel_that_is_not_there_is_missed(make: Make, train: Train, channel: str) -> None:
    root = make("job", "lora", Path("nowhere"))
    if channel == "golden":
        (root / "input/data/champion").unlink()
        (root / "input/data/champion").mkdir()
        (root / "input/data/champion/adapter_config.json").write_text("{}")
        shutil.rmtree(root / "input/data/golden")
    with pytest.raises(TrainingFault) as caught:
        train(root)
    assert caught.value.code == "missing_channel"
    assert channel in caught.value.message


@pytest.mark.parametrize(
    ("golden", "code"),
    [
        ([{"messages": GOLDEN[0]["messages"]}], "golden_faults"),
        ([{"prompt": "x" * 600, "expected": "yes"}], "golden_prompt_too_long"),
    ],
)
def test_golden_prompts_that_cannot_be_asked_are_refused(
    make: Make, train: Train, golden: list[dict[str, Any]], code: str
) -> None:
    root = make("job", "lora")
    write_rows(root / "input/data/golden/golden.jsonl", golden)
    with pytest.raises(TrainingFault) as caught:
        train(root)
    assert caught.value.code == code
    assert "line 1" in f"{caught.value.message} {caught.value.evidence}"
