from __future__ import annotations

import json
from pathlib import Path

import pytest

from spotune.contracts.base import MICRO, dollars
from tests import tiny_model
from tests.cli.conftest import Run, Service


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    (tmp_path / "rows.jsonl").write_bytes(tiny_model.chat_rows(60))
    path = tmp_path / "job.yaml"
    path.write_text(f"model: {tiny_model.NAME}\ntraining_file: rows.jsonl\nsuffix: twice\nseed: 3\n")
    return path


def submitted(run: Run, job_file: Path) -> str:
    return str(run("submit", job_file, "--json").json["id"])


def test_a_job_file_is_submitted_with_its_dataset_uploaded_once(service: Service, run: Run, job_file: Path) -> None:
    first = run("submit", job_file, "--budget", "4.5", "--json")
    second = run("submit", job_file, "--json")
    assert (first.code, second.code) == (0, 0)
    assert first.json["spotune"]["money"]["cap"] == 4_500_000
    assert first.json["training_file"] == second.json["training_file"]
    assert service.calls.count(("POST", "/v1/files")) == 1
    assert first.err == ""


def test_a_deleted_file_is_uploaded_again(service: Service, run: Run, job_file: Path) -> None:
    file_id = run("submit", job_file, "--json").json["training_file"]
    service.world.store.delete_file("acme", file_id)
    again = run("submit", job_file, "--json")
    assert again.code == 0
    assert again.json["training_file"] != file_id


def test_a_plan_starts_nothing(service: Service, run: Run, job_file: Path) -> None:
    planned = run("plan", job_file, "--json")
    assert planned.code == 0
    assert planned.json["object"] == "fine_tuning.plan"
    assert run("list", "--json").json["data"] == []


def test_a_plan_is_told_in_words(service: Service, run: Run, job_file: Path) -> None:
    words = run("plan", job_file).out
    for part in ("chosen", "worst case", "Ladder", "Rejected", "Settings", "old)", "queue included"):
        assert part in words


def test_without_an_api_the_plan_is_made_here(run: Run, job_file: Path) -> None:
    planned = run("plan", job_file, "--set", "model=meta-llama/Llama-3.1-8B", "--json")
    assert planned.code == 0
    assert planned.json["plan"]["chosen"]["cost"]["mid"] > 0
    assert planned.json["dataset"]["training"]["rows"] == 60


def test_jobs_are_listed_page_by_page(service: Service, run: Run, job_file: Path) -> None:
    ids = []
    for _ in range(3):
        service.world.clock.now += 1
        ids.append(submitted(run, job_file))
    page = run("list", "--limit", "2")
    assert f"spotune list --after {ids[1]}" in page.out
    rest = run("list", "--after", ids[1], "--json").json
    assert [job["id"] for job in rest["data"]] == ids[:1]


def test_a_list_says_what_is_held_back_for_a_job_that_runs(service: Service, run: Run, job_file: Path) -> None:
    submitted(run, job_file)
    service.world.run_queue()
    (listed,) = run("list", "--json").json["data"]
    money = listed["spotune"]["money"]
    assert money["reserved"] > 0
    assert dollars(money["reserved"]) in run("list").out


def test_a_job_is_shown_with_its_settings_and_their_reasons(service: Service, run: Run, job_file: Path) -> None:
    job_id = submitted(run, job_file)
    words = run("show", job_id).out
    assert job_id in words
    assert "of $20.00 allowed" in words
    assert "max_sequence_length" in words


def test_a_watched_job_that_is_cancelled_ends_with_6(service: Service, run: Run, job_file: Path) -> None:
    job_id = submitted(run, job_file)
    assert run("cancel", job_id).code == 0
    service.world.run_queue()
    watched = run("watch", job_id)
    assert watched.code == 6
    assert "cancelled" in watched.out
    lines = run("watch", job_id, "--json").out.splitlines()
    assert json.loads(lines[-1])["status"] == "cancelled"


def test_the_log_is_printed_oldest_first_and_each_line_once(service: Service, run: Run, job_file: Path) -> None:
    job_id = submitted(run, job_file)
    run("cancel", job_id)
    service.world.run_queue()
    lines = [json.loads(line) for line in run("logs", job_id, "--follow", "--json").out.splitlines()]
    numbers = [int(line["id"].rpartition("-")[2]) for line in lines]
    assert numbers == list(range(1, len(lines) + 1))
    assert len(run("logs", job_id).out.splitlines()) == len(lines)


def test_the_containers_log_of_a_deployed_job_is_looked_for_elsewhere(
    service: Service, run: Run, job_file: Path
) -> None:
    asked = run("logs", submitted(run, job_file), "--container")
    assert asked.code == 2
    assert "CloudWatch" in asked.err


def test_chat_with_a_job_that_left_no_adapter_is_refused(service: Service, run: Run, job_file: Path) -> None:
    asked = run("chat", submitted(run, job_file), "--json")
    assert asked.code == 2
    assert asked.error["code"] == "no_adapter"


def test_chat_finds_a_downloaded_adapter_without_any_api(run: Run, home: Path) -> None:
    adapter = home / "adapters" / "ftjob-1"
    adapter.mkdir(parents=True)
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "some/base"}))
    assert run("chat", "ftjob-1").code == 2
    base = home / "cache" / "models" / "some" / "base"
    base.mkdir(parents=True)
    (base / "tokenizer.json").write_text("{}")
    found = run("chat", "ftjob-1", "--json").json
    assert (found["adapter"], found["model"]) == (str(adapter), str(base))


def test_a_dataset_with_faults_is_refused_with_its_lines(service: Service, run: Run, job_file: Path) -> None:
    (job_file.parent / "rows.jsonl").write_bytes(tiny_model.chat_rows(3) + b'{"messages": []}\nnot json\n')
    refused = run("submit", job_file)
    assert refused.code == 2
    assert "line 4" in refused.err
    assert "line 5" in refused.err
    assert "the chat has no assistant turn. Add the answer" in refused.err
    assert run("list", "--json").json["data"] == []


def test_a_budget_that_nothing_meets_names_what_would_do(service: Service, run: Run, job_file: Path) -> None:
    refused = run("plan", job_file, "--budget", "0.0001", "--json")
    assert refused.code == 2
    assert refused.error["details"]
    assert refused.out == ""


def test_the_budget_of_a_submitted_job_is_what_was_asked(service: Service, run: Run, job_file: Path) -> None:
    job_id = run("submit", job_file, "--budget", "3", "--within-hours", "48", "--json").json["id"]
    record = service.world.store.find_job(job_id)
    assert record is not None
    assert record.cap == 3 * MICRO
    assert record.deadline == service.world.clock.now + 48 * 3600
