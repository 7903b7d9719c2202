"""`pause` and `resume` against the real handlers."""

from __future__ import annotations

from pathlib import Path

from tests import tiny_model
from tests.cli.conftest import Run, Service


def test_a_job_that_was_not_launched_is_paused_and_goes_on(service: Service, run: Run, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(tiny_model.chat_rows(30))
    flags = ("--model", tiny_model.NAME, "--training-file", tmp_path / "rows.jsonl")
    job_id = run("submit", *flags, "--json").json["id"]
    assert run("pause", job_id).code == 0
    service.world.run_queue()
    assert run("show", job_id, "--json").json["status"] == "paused"
    assert run("pause", job_id).code == 0
    resumed = run("resume", job_id)
    assert f"spotune watch {job_id}" in resumed.out
    service.world.run_queue()
    assert run("show", job_id, "--json").json["status"] == "queued"
    assert len(service.world.training_jobs.specs) == 1


def test_a_job_that_is_not_paused_cannot_be_resumed(service: Service, run: Run, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(tiny_model.chat_rows(30))
    flags = ("--model", tiny_model.NAME, "--training-file", tmp_path / "rows.jsonl")
    job_id = run("submit", *flags, "--json").json["id"]
    ran = run("resume", job_id)
    assert ran.code == 2
    assert "cannot be resumed" in ran.err
