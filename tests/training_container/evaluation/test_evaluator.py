"""What is measured on the held-out rows, by a real model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from spotune.cli.scores import score_lines
from spotune.contracts.training import ExitCode
from tests.training_container.building import chat, report_of, write_rows
from training_container.corpus import collate, load_corpus, load_tokenizer
from training_container.device import evaluating, find_machine
from training_container.evaluation.evaluator import Evaluator
from training_container.faults import Stopped
from training_container.folders import Folders
from training_container.inputs import read_inputs
from training_container.loading import load_base
from training_container.objectives.supervised import loss_sum

pytestmark = pytest.mark.torch

Root = Callable[..., Path]
Train = Callable[..., ExitCode]


def ticket(number: int, **labels: Any) -> dict[str, Any]:
    answer = '{"a": 1}' if number % 2 else '{"a": 0}'
    return {**chat(f"Ticket {number}", answer), **labels}


@pytest.fixture
def labelled(root: Root) -> Path:
    """Rows with JSON answers, two slices and two choices, held-out ones apart."""
    folder = root(
        optimization={"epochs": 16, "learning_rate": 0.02},
        adapter={"rank": 16, "alpha": 32, "dropout": 0.0},
        data={"max_sequence_length": 150},
        evaluation={"generation_examples": 4, "max_new_tokens": 10},
    )
    data = folder / "input" / "data"
    labels = {"choices": ['{"a": 0}', '{"a": 1}', "neither of the two"]}
    write_rows(data / "training" / "train.jsonl", [ticket(number, **labels, slice="all") for number in range(30)])
    held_out = [ticket(number, **labels, slice="odd" if number % 2 else "even") for number in range(30, 38)]
    write_rows(data / "validation" / "held_out.jsonl", held_out)
    return folder


def evaluator_of(folder: Path, check: Callable[[], None] = lambda: None) -> tuple[Evaluator, Any]:
    inputs = read_inputs(Folders(folder))
    machine = find_machine(inputs.config.hardware)
    tokenizer = load_tokenizer(inputs.model)
    corpus = load_corpus(inputs, tokenizer)
    evaluator = Evaluator.of(corpus, tokenizer, inputs.model, inputs.config, machine=machine, lines=2, check=check)
    return evaluator, load_base(inputs.model, inputs.config, machine)


def test_the_losses_of_packed_rows_are_those_of_each_row_alone(labelled: Path) -> None:
    evaluator, model = evaluator_of(labelled)
    assert any(len(sequence) > 1 for sequence in evaluator.corpus.evaluation)
    measured = evaluator.measure_loss(model)
    rows = [row for sequence in evaluator.corpus.evaluation for row in sequence]
    with evaluating(model):
        alone = [float(loss_sum(model, collate([(row,)], evaluator.tokenizer.pad_token_id))) for row in rows]
    assert measured.losses == pytest.approx(alone, rel=1e-5)
    assert measured.loss == pytest.approx(sum(alone) / sum(int(row.trained.sum()) for row in rows), rel=1e-5)


def test_the_choice_is_the_answer_that_the_model_finds_likeliest(labelled: Path) -> None:
    evaluator, model = evaluator_of(labelled)
    assert [choice.right for choice in evaluator.choices] == [0, 1, 0, 1, 0, 1, 0, 1]
    chosen = evaluator.choose(model)
    choice = evaluator.choices[0]
    with evaluating(model):
        losses = [float(loss_sum(model, collate([(row,)], evaluator.tokenizer.pad_token_id))) for row in choice.rows]
    assert chosen[0] == losses.index(min(losses))
    text = evaluator.answering.decoder.decode(choice.rows[2].ids[choice.rows[2].trained].tolist())
    assert text == "neither of the two"


def test_the_report_has_every_metric_that_the_rows_allow_and_the_slices(labelled: Path, train: Train) -> None:
    assert train(labelled) == ExitCode.PUBLISHED
    report = report_of(labelled)
    found = {each.metric: each for each in report.comparisons}
    assert {metric: each.rows for metric, each in found.items()} == {
        "eval_loss": 8,
        "exact_match": 4,
        "rouge_l": 4,
        "json_valid": 4,
        "json_keys": 4,
        "multiple_choice": 8,
    }
    assert (report.base.json_valid, report.tuned.json_valid, report.tuned.json_keys) == (0.0, 1.0, 1.0)
    assert found["eval_loss"].high < 0
    assert found["eval_loss"].tuned == pytest.approx(report.tuned.eval_loss)
    assert [(each.name, each.rows) for each in report.slices] == [("even", 4), ("odd", 4)]
    shown = {line.name: line for line in score_lines(report)}
    assert shown["multiple choice (8 rows)"].tuned == f"{report.tuned.multiple_choice:.1%}"
    assert (shown["valid JSON (4 rows)"].base, shown["valid JSON (4 rows)"].tuned) == ("0.0%", "100.0%")
    assert {name for name in shown if name.startswith("odd: ")} >= {
        "odd: loss (4 rows)",
        "odd: multiple choice (4 rows)",
    }


def test_an_evaluation_can_be_left_at_each_batch_and_token(labelled: Path) -> None:
    calls = []

    def check() -> None:
        calls.append(1)
        if len(calls) > 1:
            raise Stopped

    evaluator, model = evaluator_of(labelled, check)
    for measure in (evaluator.measure_loss, evaluator.answers, evaluator.choose):
        calls.clear()
        with pytest.raises(Stopped):
            measure(model)
        assert model.training  # what is taken up again after the evaluation finds the model as it was
    assert torch.is_grad_enabled()


def test_an_answer_ends_with_the_token_that_the_model_ends_its_turns_with(labelled: Path) -> None:
    evaluator, model = evaluator_of(labelled)
    assert max(map(len, evaluator.answers(model))) > 1
    model.generation_config.eos_token_id = list(range(model.config.vocab_size))
    assert max(map(len, evaluator.answers(model))) == 1
