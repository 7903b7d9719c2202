"""The example job files are planned as they lie there, with nothing but this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from examples.openai_sdk import finetune
from spotune.cli.jobfile import parse_assignments, read_draft
from spotune.cli.main import run

EXAMPLES = Path(finetune.__file__).parents[1]


@pytest.mark.parametrize(
    ("name", "method", "objective"), [("preferences", "qlora", "dpo"), ("tool_calls", "dora", "supervised")]
)
def test_an_example_is_planned(name: str, method: str, objective: str, capsys: pytest.CaptureFixture[str]) -> None:
    job = EXAMPLES / name / "job.yaml"
    assert run(["plan", str(job), "--offline", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["plan"]["chosen"]["method"] == method
    assert read_draft(job, {}).request.objective == objective


def test_every_word_of_the_trainer_can_be_set_from_the_command_line() -> None:
    assignments = parse_assignments(
        [
            "method.type=orpo",
            "method.orpo.hyperparameters.beta=0.2",
            "adapter.type=qlora",
            "adapter.quantization=fp4",
            "training.evaluations_per_epoch=4",
            "training.early_stopping_patience=2",
            "outputs.merged=true",
            "outputs.gguf=q8_0",
            "integrations=[{type: wandb, wandb: {project: brief}}]",
        ]
    )
    fields = {"model": "m", "training_file": "file-1", **assignments}
    request = read_draft(None, fields).request
    assert (request.objective, request.chosen_hyperparameters.beta) == ("orpo", 0.2)
    assert (request.adapter.quantization, request.outputs.gguf, request.outputs.merged) == ("fp4", "q8_0", True)
    assert (request.training.evaluations_per_epoch, request.training.early_stopping_patience) == (4, 2)
    assert request.integrations[0].wandb.project == "brief"
