"""`/v1/fine_tuning` through the handlers: from a request to a settled job, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from spotune.aws.base import AwsRefused, TrainingJobRefused, TrainingJobSpec
from spotune.contracts import layout
from spotune.contracts.errors import Unavailable
from spotune.contracts.job import JobRecord
from spotune.contracts.training import Manifest, Progress
from spotune.service.installation import install
from spotune.service.jobs import submit
from spotune.service.jobs.observation import observe
from spotune.service.reconcile import reconcile
from tests import tiny_model
from tests.factories import report
from tests.in_process import Client, World, client_of
from tests.in_process import world as make_world
from tests.tiny_model import chat_rows

JOBS = "/v1/fine_tuning/jobs"


@pytest.fixture
def file_id(client: Client) -> str:
    return client.upload(chat_rows(40))


def body_for(file_id: str, **changes: object) -> dict[str, object]:
    return {"model": tiny_model.NAME, "training_file": file_id, **changes}


def submitted(client: Client, file_id: str, **changes: object) -> dict[str, Any]:
    answer = client.call("POST", JOBS, body_for(file_id, **changes))
    assert answer.status == 200, answer.raw
    return dict(answer.body)


def folder_of(job_id: str, tenant: str = "acme") -> str:
    return layout.job_uri("artifacts", tenant, job_id)


def test_a_job_goes_from_request_to_settled_cost(world: World, client: Client, file_id: str) -> None:
    job = submitted(client, file_id, constraints={"budget_usd": 2}, suffix="first")
    assert job["status"] == "queued"
    assert 0 < job["spotune"]["money"]["reserved"] <= 2_000_000
    assert job["spotune"]["plan"]["chosen"]["market"] == "spot"

    assert world.run_queue() == 1
    name = f"{job['id']}-1"
    spec = world.training_jobs.specs[name]
    assert spec.training_uri.endswith("/train.jsonl")
    config = json.loads(world.objects.read(spec.config_uri + "training.json"))
    assert config["limits"]["max_runtime_seconds"] == spec.max_runtime

    world.training_jobs.observe(name, secondary_status="Training")
    observe(world.here, name)
    assert client.call("GET", f"{JOBS}/{job['id']}").body["status"] == "running"

    output = layout.model_output_uri(folder_of(job["id"]), name)
    world.objects.write(output + "report.json", report(job_id=job["id"]).model_dump_json().encode())
    seconds = {"training_seconds": 900, "billable_seconds": 300}
    world.training_jobs.observe(name, status="Completed", secondary_status="Completed", **seconds)
    observe(world.here, name)

    done = client.call("GET", f"{JOBS}/{job['id']}").body
    assert done["status"] == "succeeded"
    assert done["fine_tuned_model"] == f"ft:{tiny_model.NAME}:first:{job['id'].removeprefix('ftjob-')}"
    assert done["trained_tokens"] == 10_000
    money = done["spotune"]["money"]
    assert money["reserved"] == 0
    assert money["billed"] == -(-done["spotune"]["attempts"][0]["on_demand_price"] * 300 // 3600)
    assert money["on_demand"] == pytest.approx(3 * money["billed"], abs=3)
    ledger = world.store.ledger("acme", "2026-09", limit=0)
    assert (ledger.reserved, ledger.billed) == (0, money["billed"])

    models = client.call("GET", "/v1/models").body["data"]
    assert [model["id"] for model in models] == [tiny_model.NAME, done["fine_tuned_model"]]
    assert client.call("GET", f"/v1/models/{done['fine_tuned_model']}").body["spotune"]["uri"] == output


def test_the_log_is_gapless_and_pages_backwards(world: World, client: Client, file_id: str) -> None:
    job = submitted(client, file_id)
    world.run_queue()
    everything = client.call("GET", f"{JOBS}/{job['id']}/events", query="limit=100").body
    numbers = [int(event["id"].rpartition("-")[2]) for event in everything["data"]]
    assert numbers == list(range(len(numbers), 0, -1))
    page = client.call("GET", f"{JOBS}/{job['id']}/events", query=f"limit=2&after={everything['data'][0]['id']}").body
    assert page["data"] == everything["data"][1:3]
    assert page["has_more"] is True


def test_the_same_idempotency_key_makes_one_job(world: World, client: Client, file_id: str) -> None:
    answers = [client.call("POST", JOBS, body_for(file_id), idempotency_key="k1") for _ in range(5)]
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body["id"] for answer in answers}) == 1
    assert len(client.call("GET", JOBS).body["data"]) == 1
    assert world.run_queue() == 1


def test_the_same_key_with_another_body_is_refused(client: Client, file_id: str) -> None:
    client.call("POST", JOBS, body_for(file_id), idempotency_key="k1")
    other = client.call("POST", JOBS, body_for(file_id, seed=3), idempotency_key="k1")
    assert (other.status, other.error["code"]) == (409, "idempotency_key_reused")


def test_two_tenants_may_use_the_same_key(client: Client, stranger: Client) -> None:
    ids = {
        one.call("POST", JOBS, body_for(one.upload(chat_rows(40))), idempotency_key="k").body["id"]
        for one in (client, stranger)
    }
    assert len(ids) == 2


@pytest.mark.parametrize("route", ["GET {}", "POST {}/cancel", "POST {}/pause", "GET {}/events", "GET {}/checkpoints"])
def test_another_tenants_job_does_not_exist(client: Client, stranger: Client, file_id: str, route: str) -> None:
    job = submitted(client, file_id)
    method, path = route.format(f"{JOBS}/{job['id']}").split()
    answer = stranger.call(method, path)
    assert (answer.status, answer.error["code"]) == (404, "job_not_found")
    assert stranger.call("GET", JOBS).body["data"] == []


def test_another_tenants_file_cannot_be_trained_on(world: World, stranger: Client, file_id: str) -> None:
    by_id = stranger.call("POST", JOBS, body_for(file_id))
    assert (by_id.status, by_id.error["code"], by_id.error["param"]) == (404, "file_not_found", "training_file")
    record = world.store.get_file("acme", file_id)
    assert record is not None
    by_uri = stranger.call("POST", JOBS, body_for(record.uri))
    assert (by_uri.status, by_uri.error["code"]) == (400, "uri_not_allowed")
    assert stranger.call("GET", JOBS).body["data"] == []


def test_an_own_s3_uri_is_taken_as_it_is(world: World, client: Client) -> None:
    world.objects.write("s3://data/acme/mine/rows.jsonl", chat_rows(40))
    job = submitted(client, "s3://data/acme/mine/rows.jsonl")
    assert job["training_file"] == "s3://data/acme/mine/rows.jsonl"
    assert job["spotune"]["dataset"]["training"]["rows"] == 40


def test_a_dry_run_says_the_plan_and_leaves_nothing(world: World, client: Client, file_id: str) -> None:
    dry = client.call("POST", JOBS, body_for(file_id, dry_run=True))
    plan = client.call("POST", "/v1/fine_tuning/plans", body_for(file_id))
    assert dry.status == plan.status == 200
    assert dry.body["object"] == "fine_tuning.plan"
    assert dry.body["plan"]["chosen"] == plan.body["plan"]["chosen"]
    assert client.call("GET", JOBS).body["data"] == []
    assert world.queue.take() == []


@pytest.mark.parametrize(
    ("changes", "status", "code", "param"),
    [
        ({"model": "nobody/nothing"}, 404, "model_not_found", "model"),
        ({"training_file": "file-none"}, 404, "file_not_found", "training_file"),
        ({"validation_file": "file-none"}, 404, "file_not_found", "validation_file"),
        ({"training_file": "s3://elsewhere/x.jsonl"}, 400, "uri_not_allowed", "training_file"),
        ({"training_file": "s3://data/acme/../globex/x"}, 400, "uri_not_allowed", "training_file"),
        ({"colour": "red"}, 400, "unknown_field", "colour"),
        ({"constraints": {"budget": 3}}, 400, "unknown_field", "constraints.budget"),
        ({"constraints": {"budget_usd": 0}}, 400, "invalid_value", "constraints.budget_usd"),
        ({"constraints": {"budget_usd": -1}}, 400, "invalid_value", "constraints.budget_usd"),
        ({"constraints": {"finish_within_hours": 0}}, 400, "invalid_value", "constraints.finish_within_hours"),
        ({"hyperparameters": {"n_epochs": 0}}, 400, "invalid_value", None),
        ({"method": {"type": "ppo"}}, 400, "invalid_value", "method.type"),
        ({"model": None}, 400, "invalid_value", "model"),
    ],
)
def test_a_bad_request_is_refused_by_name_and_nothing_starts(
    world: World, client: Client, file_id: str, changes: dict[str, object], status: int, code: str, param: str | None
) -> None:
    answer = client.call("POST", JOBS, body_for(file_id, **changes))
    assert (answer.status, answer.error["code"]) == (status, code), answer.raw
    if param is not None:
        assert answer.error["param"] == param
    assert client.call("GET", JOBS).body["data"] == []
    assert world.queue.take() == []


def test_a_budget_that_nothing_meets_names_the_cheapest_that_would_do(client: Client, file_id: str) -> None:
    answer = client.call("POST", JOBS, body_for(file_id, constraints={"budget_usd": 0.000001}))
    assert answer.status == 400
    assert "$" in answer.error["message"]
    assert client.call("GET", JOBS).body["data"] == []


def test_every_fault_of_a_file_is_listed_with_its_line(client: Client) -> None:
    bad = client.upload(
        chat_rows(2) + b'{"messages": []}\n{"messages": [{"role": "robot", "content": "x"}]}\nnot json\n'
    )
    answer = client.call("POST", JOBS, body_for(bad))
    assert (answer.status, answer.error["param"]) == (400, "training_file")
    faults = answer.error["details"]["reports"]["training_file"]["faults"]
    assert {fault["line"] for fault in faults} == {3, 4, 5}
    assert all(fault["rule"] and fault["remedy"] for fault in faults)


def test_a_record_that_cannot_be_read_is_our_fault_and_not_the_callers(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: object) -> JobRecord:
        return JobRecord.model_validate({"id": "written by another version"})

    monkeypatch.setattr(world.store, "get_job", unreadable)
    answer = client.call("GET", f"{JOBS}/ftjob-old")
    assert (answer.status, answer.error["code"]) == (500, "internal_error")
    assert "another version" not in answer.raw


def test_a_missing_or_wrong_key_opens_nothing(world: World, client: Client) -> None:
    assert Client(None).call("GET", JOBS).status == 401
    assert Client("sk-spotune-wrong").call("GET", JOBS).error["code"] == "invalid_api_key"
    assert Client(None).call("GET", "/openapi.json").status == 200


def test_an_unknown_route_answers_with_an_error_object(client: Client) -> None:
    answer = client.call("GET", "/v1/assistants")
    assert (answer.status, answer.error["code"]) == (404, "route_not_found")


def test_unknown_cursors_are_refused(client: Client, file_id: str) -> None:
    job = submitted(client, file_id)
    for path in (JOBS, f"{JOBS}/{job['id']}/checkpoints", "/v1/files"):
        answer = client.call("GET", path, query="after=nothing")
        assert (answer.status, answer.error["code"]) == (400, "unknown_cursor"), path


def test_the_monthly_limit_refuses_before_anything_is_recorded() -> None:
    poor = make_world(monthly_limit_usd=3)
    install(poor.here)
    client = client_of(poor.here, "acme")
    file_id = client.upload(chat_rows(40))
    submitted(client, file_id, constraints={"budget_usd": 2})
    answer = client.call("POST", JOBS, body_for(file_id, constraints={"budget_usd": 2}))
    assert (answer.status, answer.error["code"]) == (400, "monthly_limit_reached")
    assert len(client.call("GET", JOBS).body["data"]) == 1


def test_a_large_file_is_checked_after_the_request(
    world: World, client: Client, file_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "IN_REQUEST_BYTES", 10)
    job = submitted(client, file_id)
    assert (job["status"], job["spotune"]["plan"]) == ("validating_files", None)
    assert world.run_queue() == 2
    assert client.call("GET", f"{JOBS}/{job['id']}").body["spotune"]["attempts"][0]["accepted"] is True


def test_a_large_bad_file_fails_its_job_with_the_reason(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "IN_REQUEST_BYTES", 10)
    job = submitted(client, client.upload(b"not json at all\n"))
    world.run_queue()
    failed = client.call("GET", f"{JOBS}/{job['id']}").body
    assert (failed["status"], failed["error"]["param"]) == ("failed", "training_file")
    assert failed["spotune"]["dataset"]["training"]["faults"][0]["line"] == 1
    assert world.training_jobs.specs == {}


def test_a_cancelled_job_that_was_not_launched_never_starts(world: World, client: Client, file_id: str) -> None:
    job = submitted(client, file_id)
    client.call("POST", f"{JOBS}/{job['id']}/cancel")
    world.run_queue()
    ended = client.call("GET", f"{JOBS}/{job['id']}").body
    assert (ended["status"], ended["spotune"]["money"]["reserved"]) == ("cancelled", 0)
    assert world.training_jobs.specs == {}


def test_a_finished_job_cannot_be_cancelled(world: World, client: Client, file_id: str) -> None:
    job = submitted(client, file_id)
    world.run_queue()
    world.training_jobs.observe(
        f"{job['id']}-1", status="Failed", secondary_status="Failed", exit_code=2, failure={"code": "x", "message": "x"}
    )
    observe(world.here, f"{job['id']}-1")
    answer = client.call("POST", f"{JOBS}/{job['id']}/cancel")
    assert (answer.status, answer.error["code"]) == (409, "wrong_state")


def test_a_command_delivered_twice_starts_one_training_job(world: World, client: Client, file_id: str) -> None:
    submitted(client, file_id)
    messages = world.queue.take()
    for message in messages * 3:
        world.queue.send(message)
    world.run_queue()
    assert len(world.training_jobs.specs) == 1


def test_a_lost_answer_is_found_again_and_adopted(
    world: World, client: Client, file_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = world.training_jobs.create

    def lose_the_answer(spec: TrainingJobSpec) -> None:
        create(spec)
        raise Unavailable("No answer.", code="unavailable")

    job = submitted(client, file_id)
    with monkeypatch.context() as broken:
        broken.setattr(world.training_jobs, "create", lose_the_answer)
        with pytest.raises(Unavailable):
            world.run_queue()
    world.clock.now += 61
    assert reconcile(world.here).commands_queued == 1
    world.run_queue()
    assert len(world.training_jobs.specs) == 1
    assert client.call("GET", f"{JOBS}/{job['id']}").body["spotune"]["attempts"][0]["accepted"] is True


def test_a_queue_that_does_not_answer_costs_time_and_no_job(
    world: World, client: Client, file_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(body: object) -> None:
        raise Unavailable("SQS does not answer.", code="unavailable")

    with monkeypatch.context() as broken:
        broken.setattr(world.queue, "send", refuse)
        job = submitted(client, file_id)
    assert world.run_queue() == 0
    world.clock.now += 61
    reconcile(world.here)
    assert world.run_queue() == 1
    assert f"{job['id']}-1" in world.training_jobs.specs


def test_quota_waits_and_is_tried_again(world: World, client: Client, file_id: str) -> None:
    world.training_jobs.answers.append(TrainingJobRefused("quota", "limit is 0"))
    job = submitted(client, file_id)
    world.run_queue()
    waiting = client.call("GET", f"{JOBS}/{job['id']}").body
    assert waiting["status"] == "queued"
    assert "quota" in waiting["spotune"]["waiting_for"]
    world.clock.now += 301
    reconcile(world.here)
    world.run_queue()
    assert list(world.training_jobs.specs) == [f"{job['id']}-1"]


def test_a_refusal_is_not_believed_while_the_training_job_lives(
    world: World, client: Client, file_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = world.training_jobs.create

    def take_and_refuse(spec: TrainingJobSpec) -> None:
        create(spec)
        raise TrainingJobRefused("quota", "the first request holds it")

    job = submitted(client, file_id)
    monkeypatch.setattr(world.training_jobs, "create", take_and_refuse)
    world.run_queue()
    seen = client.call("GET", f"{JOBS}/{job['id']}").body["spotune"]
    assert seen["attempts"][0]["accepted"] is True
    assert seen["money"]["reserved"] > 0


def test_a_config_that_may_not_be_written_fails_the_job_in_words(
    world: World, client: Client, file_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(uri: str, body: bytes) -> None:
        raise AwsRefused("AccessDenied", "s3:PutObject")

    job = submitted(client, file_id)
    monkeypatch.setattr(world.objects, "write", refuse)
    world.run_queue()
    failed = client.call("GET", f"{JOBS}/{job['id']}").body
    assert (failed["status"], failed["error"]["code"]) == ("failed", "permission_missing")


def test_a_passing_fault_of_s3_does_not_fail_a_large_job(
    world: World, client: Client, file_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hiccup(uri: str) -> object:
        raise Unavailable("S3 does not answer.", code="aws_unavailable")

    monkeypatch.setattr(submit, "IN_REQUEST_BYTES", 10)
    job = submitted(client, file_id)
    messages = world.queue.take()
    with monkeypatch.context() as broken:
        broken.setattr(world.objects, "stream", hiccup)
        world.queue.send(messages[0])
        with pytest.raises(Unavailable):
            world.run_queue()
    world.queue.send(messages[0])
    world.run_queue()
    assert client.call("GET", f"{JOBS}/{job['id']}").body["status"] == "queued"


def _cut_off(uri: str) -> Iterator[bytes]:
    raise Unavailable(f"{uri} was not read to its end.", code="aws_unavailable")


def test_a_check_that_never_ends_fails_its_job_at_last(
    world: World, client: Client, file_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "IN_REQUEST_BYTES", 10)
    job = submitted(client, file_id)
    queued_again = 0
    monkeypatch.setattr(world.objects, "stream", _cut_off)
    for _ in range(120):
        world.clock.now += 60
        with suppress(Unavailable):
            world.run_queue()
        queued_again += reconcile(world.here).commands_queued
        failed = client.call("GET", f"{JOBS}/{job['id']}").body
        if failed["status"] == "failed":
            break
    assert (failed["status"], failed["error"]["code"]) == ("failed", "check_timed_out")
    assert 5 <= queued_again <= 8


def test_one_broken_job_does_not_keep_the_others_from_being_reconciled(
    world: World, client: Client, file_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, sound = submitted(client, file_id), submitted(client, file_id)
    world.run_queue()
    describe = world.training_jobs.describe

    def refuse_one(name: str) -> object:
        if name.startswith(broken["id"]):
            raise AwsRefused("AccessDeniedException", "no")
        return describe(name)

    monkeypatch.setattr(world.training_jobs, "describe", refuse_one)
    world.training_jobs.observe(f"{sound['id']}-1", secondary_status="Training")
    assert reconcile(world.here).jobs_failed == 1
    assert client.call("GET", f"{JOBS}/{sound['id']}").body["status"] == "running"


def test_a_file_whose_name_begins_another_is_refused_before_a_gpu_finds_both(world: World, client: Client) -> None:
    world.objects.write("s3://data/acme/mine/rows.jsonl", chat_rows(40))
    world.objects.write("s3://data/acme/mine/rows.jsonl.bak", chat_rows(40))
    answer = client.call("POST", JOBS, body_for("s3://data/acme/mine/rows.jsonl"))
    assert (answer.status, answer.error["code"]) == (400, "uri_ambiguous")


def test_a_resume_beyond_the_limit_is_refused_and_stays_paused() -> None:
    poor = make_world(monthly_limit_usd=3)
    install(poor.here)
    client = client_of(poor.here, "acme")
    file_id = client.upload(chat_rows(40))
    job = submitted(client, file_id, constraints={"budget_usd": 2})
    poor.run_queue()
    client.call("POST", f"{JOBS}/{job['id']}/pause")
    poor.run_queue()
    poor.training_jobs.observe(f"{job['id']}-1", status="Stopped", secondary_status="Stopped")
    observe(poor.here, f"{job['id']}-1")
    submitted(client, file_id, constraints={"budget_usd": 2})
    answer = client.call("POST", f"{JOBS}/{job['id']}/resume")
    assert (answer.status, answer.error["code"]) == (409, "monthly_limit_reached")
    assert client.call("GET", f"{JOBS}/{job['id']}").body["status"] == "paused"


def test_progress_and_checkpoints_are_read_from_where_the_container_leaves_them(
    world: World, client: Client, file_id: str
) -> None:
    job = submitted(client, file_id)
    world.run_queue()
    checkpoints = layout.checkpoints_uri(folder_of(job["id"]))
    progress = Progress(phase="training", step=7, total_steps=20, loss=1.5)
    world.objects.write(checkpoints + "progress.json", progress.model_dump_json().encode())
    for step in (5, 10):
        manifest = Manifest(
            job_id=job["id"], config_sha256="", step=step, tokens_seen=1, created_at=1, train_loss=2.0, files=()
        )
        world.objects.write(f"{checkpoints}checkpoint-{step}/manifest.json", manifest.model_dump_json().encode())
    world.objects.write(f"{checkpoints}checkpoint-15/manifest.json", b'{"half')

    assert client.call("GET", f"{JOBS}/{job['id']}").body["spotune"]["progress"]["step"] == 7
    page = client.call("GET", f"{JOBS}/{job['id']}/checkpoints", query="limit=1").body
    assert [one["step_number"] for one in page["data"]] == [10]
    rest = client.call("GET", f"{JOBS}/{job['id']}/checkpoints", query=f"after={page['last_id']}").body
    assert [one["step_number"] for one in rest["data"]] == [5]


def test_the_document_describes_every_route(client: Client) -> None:
    document = client.call("GET", "/openapi.json").body
    assert set(document["paths"]) >= {
        "/v1/files",
        "/v1/files/{file_id}",
        "/v1/fine_tuning/jobs",
        "/v1/fine_tuning/jobs/{job_id}/cancel",
        "/v1/fine_tuning/plans",
        "/v1/models/{model}",
    }
    properties = document["components"]["schemas"]["JobRequest"]["properties"]
    assert {"constraints", "adapter", "training", "gate", "dry_run"} <= set(properties)


def test_jobs_are_filtered_by_their_status(world: World, client: Client, file_id: str) -> None:
    first, second = submitted(client, file_id), submitted(client, file_id)
    client.call("POST", f"{JOBS}/{first['id']}/cancel")
    world.run_queue()
    for status, one in (("cancelled", first), ("queued", second)):
        found = client.call("GET", JOBS, query=f"status={status}").body["data"]
        assert [job["id"] for job in found] == [one["id"]]
    refused = client.call("GET", JOBS, query="status=lost")
    assert (refused.status, refused.error["param"]) == (400, "status")


def preferences(count: int) -> bytes:
    """OpenAI's shape."""
    rows = (
        {
            "input": {"messages": [{"role": "user", "content": f"the floor {number}?"}]},
            "preferred_output": [{"role": "assistant", "content": "second"}],
            "non_preferred_output": [{"role": "assistant", "content": "out of paper"}],
        }
        for number in range(count)
    )
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def test_preferences_are_trained_by_their_objective_and_refused_by_any_other(world: World, client: Client) -> None:
    file_id = client.upload(preferences(40))
    method = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2}}}
    job = submitted(client, file_id, method=method)
    assert world.run_queue() == 1
    spec = world.training_jobs.specs[f"{job['id']}-1"]
    config = json.loads(world.objects.read(spec.config_uri + "training.json"))
    assert config["objective"] == {"type": "dpo", "beta": 0.2, "loss_on": "assistant"}
    assert config["data"]["packing"] is False
    for other in ({}, {"method": {"type": "kto"}}):
        refused = client.call("POST", JOBS, body_for(file_id, **other))
        assert refused.status == 400
        assert "wrong_objective" in json.dumps(refused.body)


def test_what_loss_on_says_reaches_the_container(world: World, client: Client, file_id: str) -> None:
    for loss_on in ("assistant", "all"):
        job = submitted(client, file_id, training={"loss_on": loss_on})
        world.run_queue()
        spec = world.training_jobs.specs[f"{job['id']}-1"]
        config = json.loads(world.objects.read(spec.config_uri + "training.json"))
        assert config["objective"]["loss_on"] == loss_on
