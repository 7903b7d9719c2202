"""`retry` against the real handlers."""

from __future__ import annotations

from pathlib import Path

import pytest

from spotune.service.jobs.observation import observe
from tests import tiny_model
from tests.checkpoints import leave_checkpoint, leave_notes
from tests.cli.conftest import Run, Service


@pytest.fixture
def failed(service: Service, run: Run, tmp_path: Path) -> str:
    """A job that failed at step 45 of 100."""
    (tmp_path / "rows.jsonl").write_bytes(tiny_model.chat_rows(30))
    job_id = str(
        run("submit", "--model", tiny_model.NAME, "--training-file", tmp_path / "rows.jsonl", "--json").json["id"]
    )
    world = service.world
    world.run_queue()
    job = world.store.get_job("acme", job_id)
    assert job is not None
    leave_checkpoint(world.objects, job, 40)
    leave_notes(world.objects, job, step=45, total_steps=100)
    failure = {"code": "out_of_memory", "message": "It did not fit."}
    world.training_jobs.observe(f"{job_id}-1", status="Failed", secondary_status="Failed", exit_code=2, failure=failure)
    observe(world.here, f"{job_id}-1")
    return job_id


def test_a_failed_job_is_retried_with_changes_and_says_where_it_goes_on(
    service: Service, run: Run, failed: str
) -> None:
    dry = run("retry", failed, "--set", "constraints.budget_usd=3", "--dry-run")
    assert dry.code == 0
    assert "step 40" in dry.out
    ran = run("retry", failed, "--set", "constraints.budget_usd=3")
    assert ran.code == 0
    assert failed in ran.out
    assert "Goes on from step 40 of 100" in " ".join(ran.out.split())
    again = run("retry", failed, "--set", "constraints.budget_usd=3", "--json").json
    assert (again["spotune"]["retry_of"], again["spotune"]["money"]["cap"]) == (failed, 3_000_000)
    assert len(run("list", "--json").json["data"]) == 2


def test_an_answer_that_is_lost_makes_no_second_retry(service: Service, run: Run, failed: str) -> None:
    losses = [True]
    service.lose = lambda method, path: path.endswith("/retry") and bool(losses) and losses.pop()
    assert run("retry", failed, "--set", "suffix=b", "--json").json["spotune"]["retry_of"] == failed
    assert len(run("list", "--json").json["data"]) == 2


def test_another_file_of_this_machine_is_uploaded_first(run: Run, failed: str, tmp_path: Path) -> None:
    (tmp_path / "more.jsonl").write_bytes(tiny_model.chat_rows(31))
    ran = run("retry", failed, "--set", f"training_file={tmp_path / 'more.jsonl'}", "--json")
    assert ran.json["training_file"].startswith("file-")
    assert ran.json["spotune"]["resumption"]["differences"][0].startswith("training_file")


def test_what_cannot_be_retried_or_is_no_field_is_refused_in_words(service: Service, run: Run, failed: str) -> None:
    unknown = run("retry", failed, "--set", "constraints.budget=3")
    assert (unknown.code, "constraints.budget" in unknown.err) == (2, True)
    live = run("retry", failed, "--json").json["id"]
    refused = run("retry", live)
    assert (refused.code, "cannot be retried" in refused.err) == (2, True)
    assert run("retry", "ftjob-none").code == 3


def test_a_retry_that_is_waited_for_ends_with_its_outcome(service: Service, run: Run, failed: str) -> None:
    first = run("retry", failed, "--json").json["id"]
    run("cancel", first)
    service.world.run_queue()
    assert run("retry", failed, "--wait").code == 6


def test_explain_names_the_retry_that_mends_it(run: Run, failed: str) -> None:
    assert f"spotune retry {failed} --set" in run("explain", failed, "--json").json["command"]
