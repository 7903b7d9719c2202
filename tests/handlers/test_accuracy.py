"""Forecast and outcome through the API, from a job that runs to its end."""

from __future__ import annotations

import pytest

from spotune.contracts import layout
from spotune.service.jobs.observation import observe
from tests.factories import report
from tests.handlers.test_jobs import JOBS, body_for, folder_of, submitted
from tests.in_process import Client, World
from tests.tiny_model import chat_rows


def run_to_the_end(world: World, client: Client, *, device: str = "Tesla T4") -> dict[str, object]:
    """A job that took 900 s, of which 300 were billed."""
    job = submitted(client, client.upload(chat_rows(40)))
    world.run_queue()
    name = f"{job['id']}-1"
    output = layout.model_output_uri(folder_of(job["id"]), name)
    body = report(job_id=job["id"], device=device, tokens_seen=30_000, train_seconds=60.0)
    world.objects.write(output + "report.json", body.model_dump_json().encode())
    world.clock.now += 1200
    seconds = {"training_seconds": 900, "billable_seconds": 300, "interruptions": 1}
    world.training_jobs.observe(name, status="Completed", secondary_status="Completed", **seconds)
    observe(world.here, name)
    return dict(client.call("GET", f"{JOBS}/{job['id']}").body)


def test_nothing_has_ended_yet(client: Client) -> None:
    answer = client.call("GET", "/v1/accuracy")
    assert answer.status == 200
    assert answer.body["data"] == []
    assert answer.body["corrections"] == {"runs": 0, "factors": [], "spot": []}


def test_accuracy_is_not_shown_without_a_key() -> None:
    assert Client(None).call("GET", "/v1/accuracy").status == 401


def test_a_finished_job_has_its_forecast_beside_its_outcome(world: World, client: Client) -> None:
    job = run_to_the_end(world, client)
    details = job["spotune"]
    assert isinstance(details, dict)
    actual = details["run"]["actual"]
    assert actual["cost"] == details["money"]["billed"]
    assert actual["billed_hours"] == 0.25
    assert actual["wall_hours"] == pytest.approx(1 / 3)
    assert actual["tokens_per_second"] == 500
    assert details["run"]["forecast"] == details["plan"]["chosen"]
    assert client.call("GET", "/v1/accuracy").body["data"] == [details["run"]]


def test_the_next_plan_is_corrected_by_what_a_run_showed(world: World, client: Client) -> None:
    run_to_the_end(world, client)
    world.clock.now += 301
    body = client.call("GET", "/v1/accuracy").body["corrections"]
    assert body["runs"] == 1
    assert {one["quantity"] for one in body["factors"]} >= {"speed", "memory"}
    assert [(one["instance_type"], one["interruptions"]) for one in body["spot"]] == [("ml.g4dn.xlarge", 1)]
    plan = client.call("POST", "/v1/fine_tuning/plans", body_for(client.upload(chat_rows(40)))).body["plan"]
    candidates = [plan["chosen"], *plan["alternatives"]]
    assert any(one["corrections"]["speed"] != 1 for one in candidates)


def test_a_cpu_that_stands_in_for_the_gpu_corrects_nothing(world: World, client: Client) -> None:
    run_to_the_end(world, client, device="AMD EPYC")
    world.clock.now += 301
    answer = client.call("GET", "/v1/accuracy").body
    assert len(answer["data"]) == 1
    assert answer["corrections"]["runs"] == 0


def test_another_tenants_runs_are_not_listed(world: World, client: Client, stranger: Client) -> None:
    job = run_to_the_end(world, client)
    assert stranger.call("GET", "/v1/accuracy").body["data"] == []
    assert stranger.call("GET", "/v1/accuracy", query=f"after={job['id']}").status == 400
