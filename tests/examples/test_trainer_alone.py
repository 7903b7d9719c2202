"""The trainer runs from a folder alone, as the example lays it out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from examples.trainer_alone.run import HERE
from spotune.contracts.training import TrainingConfig, TrainingReport
from tests.training_container.building import ROOT, chat, save_model, write_rows


def test_the_config_beside_it_is_one_of_this_version() -> None:
    assert TrainingConfig.model_validate_json((HERE / "training.json").read_bytes()).outputs.merged


@pytest.mark.torch
def test_it_trains_a_tiny_model_and_says_where_it_lies(tmp_path: Path) -> None:
    model, data, out = save_model(tmp_path / "model"), tmp_path / "rows.jsonl", tmp_path / "out"
    write_rows(data, [chat(f"Row {number}", "yes") for number in range(30)])
    command = [sys.executable, str(HERE / "run.py"), "--model", str(model), "--train", str(data), "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert ended.returncode == 0, ended.stderr
    assert "eval_loss: " in ended.stdout
    assert str(out / "model" / "merged") in ended.stdout
    report = TrainingReport.model_validate_json((out / "model" / "report.json").read_bytes())
    assert {each.name for each in report.outputs} == {"adapter", "merged"}


@pytest.mark.torch
def test_a_run_that_cannot_be_carried_out_ends_with_the_trainers_own_words(tmp_path: Path) -> None:
    model, data = save_model(tmp_path / "model"), tmp_path / "rows.jsonl"
    write_rows(data, [{"messages": []}])
    command = [sys.executable, str(HERE / "run.py"), "--model", str(model), "--train", str(data)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [*command, "--out", str(tmp_path / "out")], env=environment, capture_output=True, text=True, timeout=100
    )
    assert ended.returncode == 2
    assert json.loads((tmp_path / "out" / "output" / "failure").read_bytes())["code"]
