"""The command line against the whole stack: what a person types, from a job file to an adapter on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from spotune.cli import main
from spotune.cli.client import Api
from spotune.cli.connection import find_connection
from spotune.cli.screen import Screen
from spotune.cli.upload import upload
from spotune.local.state import StackState
from tests import tiny_model

pytestmark = [pytest.mark.embedded, pytest.mark.torch]

JOB = f"""
model: {tiny_model.NAME}
training_file: rows.jsonl
hyperparameters: {{n_epochs: 1, batch_size: 8}}
adapter: {{type: lora, rank: 4}}
training: {{max_sequence_length: 128}}
gate: {{better_than_base: false}}
"""


@pytest.fixture(autouse=True)
def at_home(trainable: StackState, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SPOTUNE_API_URL", "SPOTUNE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SPOTUNE_HOME", str(trainable.home))


def run(capsys: pytest.CaptureFixture[str], *line: str, code: int = 0) -> str:
    capsys.readouterr()
    ended = main.run(line)
    printed = capsys.readouterr()
    assert ended == code, printed.err + printed.out
    return printed.out


def run_json(capsys: pytest.CaptureFixture[str], *line: str) -> Any:
    return json.loads(run(capsys, *line, "--json"))


def test_from_a_job_file_to_an_adapter_on_disk(
    tmp_path: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.jsonl").write_bytes(tiny_model.chat_rows(60))
    (tmp_path / "job.yaml").write_text(JOB)
    assert run_json(capsys, "status")["running"] is True
    words = run(capsys, "submit", str(tmp_path / "job.yaml"), "--budget", "2", "--wait")
    job_id = next(job["id"] for job in run_json(capsys, "list")["data"] if job["id"] in words)
    assert f"spotune chat {job_id}" in words
    shown = run_json(capsys, "show", job_id)
    assert shown["status"] == "succeeded"
    assert 0 < shown["spotune"]["money"]["billed"] <= 2_000_000
    assert "loss" in run(capsys, "logs", job_id, "--container")
    run(capsys, "data", "pull", job_id, "--out", str(tmp_path / "pulled"))
    assert (tmp_path / "pulled" / "training.jsonl").read_bytes() == (tmp_path / "rows.jsonl").read_bytes()
    found = run_json(capsys, "chat", job_id, "--model", str(tiny_folder))
    assert (Path(found["adapter"]) / "adapter_model.safetensors").stat().st_size > 0
    assert not list(Path(found["adapter"]).parent.glob(".*"))


def test_a_file_of_several_parts_arrives_whole(trainable: StackState, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(tiny_model.chat_rows(90_000))
    with Api(find_connection()) as api:
        file = upload(api, path, Screen())
        assert upload(api, path, Screen()).id == file.id
        ticket_is_gone = httpx.get(
            f"{trainable.api_url}/v1/files/{file.id}/upload", headers={"Authorization": f"Bearer {trainable.api_key}"}
        )
    assert (file.status, file.bytes) == ("processed", path.stat().st_size)
    assert file.bytes > 8 * 1024**2
    assert ticket_is_gone.status_code in (404, 409)
