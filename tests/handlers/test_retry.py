"""`POST /v1/fine_tuning/jobs/{id}/retry`: a new job, from the old one's checkpoint where it serves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from spotune.aws.base import AwsRefused, TrainingJobRefused
from spotune.contracts import layout
from spotune.contracts.checkpoint import HISTORY_NAME
from spotune.contracts.errors import Unavailable
from spotune.contracts.job import Decision, JobRecord
from spotune.service.installation import install
from spotune.service.jobs import submit
from spotune.service.jobs.checkpoints import TAG
from spotune.service.jobs.observation import observe
from spotune.service.jobs.resumption import carry_while_it_waits
from spotune.service.reconcile import reconcile
from tests import tiny_model
from tests.checkpoints import folder_of, leave_checkpoint, leave_notes
from tests.in_process import Answer, Client, World, client_of
from tests.in_process import world as make_world
from tests.tiny_model import chat_rows

JOBS = "/v1/fine_tuning/jobs"
LIMITS: dict[str, Any] = {"constraints": {"budget_usd": 2, "finish_within_hours": 8}}


class Killed(BaseException):
    """The process ends here."""


def started(world: World, client: Client, **changes: object) -> JobRecord:
    body = {"model": tiny_model.NAME, "training_file": client.upload(chat_rows(40)), **LIMITS, **changes}
    answer = client.call("POST", JOBS, body)
    assert answer.status == 200, answer.raw
    world.run_queue()
    return record(world, answer.body["id"])


def record(world: World, job_id: str, tenant: str = "acme") -> JobRecord:
    job = world.store.get_job(tenant, job_id)
    assert job is not None
    return job


def fail(world: World, job: JobRecord, code: str = "out_of_memory") -> JobRecord:
    failure = {"code": code, "message": "It failed."}
    ended = {"status": "Failed", "secondary_status": "Failed", "training_seconds": 900, "billable_seconds": 300}
    world.training_jobs.observe(f"{job.id}-1", exit_code=2, failure=failure, **ended)
    observe(world.here, f"{job.id}-1")
    assert record(world, job.id).state == "failed"
    return record(world, job.id)


@pytest.fixture
def failed(world: World, client: Client) -> JobRecord:
    return failed_with_checkpoints(world, client)


def failed_with_checkpoints(world: World, client: Client) -> JobRecord:
    """A job that failed at step 45 of 100, with a checkpoint of 40 and the best one of 20."""
    job = started(world, client)
    leave_checkpoint(world.objects, job, 20, best_step=20)
    leave_checkpoint(world.objects, job, 40, best_step=20)
    leave_notes(world.objects, job, step=45, total_steps=100)
    ended = fail(world, job)
    world.run_queue()  # its end is told
    return ended


def retry(client: Client, job: JobRecord, **changes: object) -> Answer:
    return client.call("POST", f"{JOBS}/{job.id}/retry", changes)


def retried(client: Client, job: JobRecord, **changes: object) -> dict[str, Any]:
    answer = retry(client, job, **changes)
    assert answer.status == 200, answer.raw
    return dict(answer.body)


def messages(client: Client, job_id: str) -> list[str]:
    answer = client.call("GET", f"{JOBS}/{job_id}/events", query="limit=100")
    return [event["message"] for event in reversed(answer.body["data"])]


def copied(world: World, job_id: str, tenant: str = "acme") -> dict[str, bytes]:
    folder = layout.checkpoints_uri(layout.job_uri("artifacts", tenant, job_id))
    return {one.uri.removeprefix(folder): world.objects.read(one.uri) for one in world.objects.list(folder)}


WHOLE = {
    "base_scores.json",
    "history.json",
    *(f"checkpoint-{step}/{name}" for step in (20, 40) for name in ("manifest.json", "state.json")),
    *(f"checkpoint-{step}/{name}" for step in (20, 40) for name in ("optimizer.pt", "weights.safetensors")),
}


def released(world: World, job: JobRecord) -> set[str]:
    """Of a job's checkpoints, what S3 may forget."""
    folder = layout.checkpoints_uri(folder_of(job))
    marks = world.objects.marks
    return {uri.removeprefix(folder) for uri, tag in marks.items() if uri.startswith(folder) and tag == TAG}


@dataclass(frozen=True)
class Crowded:
    """An installation in which a retry has to stand in line."""

    world: World
    client: Client
    failed: JobRecord
    other: JobRecord
    """What runs in the only place."""

    def in_line(self) -> JobRecord:
        """The retry that waits, once all commands have run."""
        job_id = retried(self.client, self.failed)["id"]
        self.world.run_queue()
        job = record(self.world, job_id)
        assert (job.line, job.attempts) == ("jobs of acme", ())
        return job

    def turn_comes(self) -> None:
        fail(self.world, self.other)
        self.pass_by()

    def pass_by(self) -> None:
        """Of the reconciler."""
        self.world.clock.now += 61
        reconcile(self.world.here)
        self.world.run_queue()

    def cancel(self, job: JobRecord) -> None:
        assert self.client.call("POST", f"{JOBS}/{job.id}/cancel").body["status"] == "cancelled"
        self.world.run_queue()

    def forget(self, job: JobRecord) -> None:
        """As S3 does 30 days after they were written."""
        for uri in [layout.checkpoints_uri(folder_of(job)) + name for name in released(self.world, job)]:
            self.world.objects.delete(uri)

    def released(self, job: JobRecord) -> set[str]:
        return released(self.world, job)


def test_a_retry_goes_on_from_a_copy_of_the_checkpoint_and_plans_the_rest(
    world: World, client: Client, failed: JobRecord
) -> None:
    before = copied(world, failed.id)
    job = retried(client, failed, constraints={"budget_usd": 3})
    seen = job["spotune"]
    assert job["id"] != failed.id
    assert seen["retry_of"] == failed.id
    assert (seen["resumption"]["job_id"], seen["resumption"]["step"]) == (failed.id, 40)
    assert seen["money"]["cap"] == 3_000_000
    assert record(world, job["id"]).request.constraints.finish_within_hours == 8
    assert failed.plan is not None
    assert seen["plan"]["chosen"]["billed_hours"]["mid"] < failed.plan.chosen.billed_hours.mid
    assert any(one["name"] == "checkpoint" and "step 40" in one["value"] for one in seen["settings"])
    assert copied(world, job["id"]) == {}, "nothing is copied before the launch"

    world.run_queue()
    assert copied(world, job["id"]) == {name: before[name] for name in WHOLE}
    assert copied(world, failed.id) == before
    spec = world.training_jobs.specs[f"{job['id']}-1"]
    assert spec.checkpoints_uri == layout.checkpoints_uri(layout.job_uri("artifacts", "acme", job["id"]))
    said = messages(client, job["id"])
    assert said[0] == f"Job created: a retry of {failed.id}."
    assert any("step 40 of 100" in line for line in said)
    assert record(world, failed.id) == failed


def test_a_change_of_what_is_learnt_starts_from_the_beginning_and_says_why(
    world: World, client: Client, failed: JobRecord
) -> None:
    job = retried(client, failed, method={"supervised": {"hyperparameters": {"n_epochs": 2}}})
    seen = job["spotune"]["resumption"]
    assert seen["step"] == 0
    assert [line.partition(":")[0] for line in seen["differences"]] == ["optimization.epochs"]
    assert any("optimization.epochs" in warning for warning in job["spotune"]["plan"]["warnings"])
    assert any("optimization.epochs" in line for line in messages(client, job["id"]))
    world.run_queue()
    assert copied(world, job["id"]) == {}
    assert f"{job['id']}-1" in world.training_jobs.specs


def test_another_file_of_the_same_rows_serves_and_other_rows_do_not(client: Client, failed: JobRecord) -> None:
    same = retried(client, failed, training_file=client.upload(chat_rows(40), "again.jsonl"))
    other = retried(client, failed, training_file=client.upload(chat_rows(41)))
    assert same["spotune"]["resumption"]["step"] == 40
    assert other["spotune"]["resumption"]["step"] == 0
    assert other["spotune"]["resumption"]["differences"][0].startswith("training_file: ")


@pytest.mark.parametrize(
    "changes",
    [
        {"constraints": {"market": "on_demand"}},
        {"constraints": {"instance_types": ["ml.g5.2xlarge"]}},
        {"constraints": {"finish_within_hours": None, "budget_usd": None}},
        {"training": {"save_interval_seconds": 60, "generation_examples": 5, "gradient_checkpointing": True}},
        {"gate": {"better_than_base": False}, "suffix": "second"},
    ],
)
def test_machines_money_and_the_gate_may_change(client: Client, failed: JobRecord, changes: dict[str, Any]) -> None:
    assert retried(client, failed, **changes)["spotune"]["resumption"]["step"] == 40


def test_a_method_that_was_left_open_stays_what_it_came_to(client: Client, failed: JobRecord) -> None:
    assert failed.config is not None
    job = retried(client, failed)
    assert job["spotune"]["resumption"]["step"] == 40
    chosen = [one for one in job["spotune"]["settings"] if one["name"] == "adapter.type"]
    assert [one["value"] for one in chosen] == [failed.config.method]
    other = "qlora" if failed.config.method == "lora" else "lora"
    assert retried(client, failed, adapter={"type": other})["spotune"]["resumption"]["step"] == 0


def test_the_same_retry_twice_is_one_job_and_another_change_is_another(
    world: World, client: Client, failed: JobRecord
) -> None:
    first, again = retried(client, failed, suffix="a"), retried(client, failed, suffix="a")
    other = retried(client, failed, suffix="b")
    assert first["id"] == again["id"] != other["id"]
    assert len(world.queue.take()) == 2
    own = [
        client.call("POST", f"{JOBS}/{failed.id}/retry", {"suffix": "a"}, idempotency_key=key).body["id"]
        for key in ("k1", "k1", "k2")
    ]
    assert own[0] == own[1]
    assert len({first["id"], *own}) == 3


def test_a_key_that_made_a_job_does_not_make_a_retry(client: Client, world: World, failed: JobRecord) -> None:
    body = failed.request.model_dump(mode="json")
    assert client.call("POST", JOBS, body, idempotency_key="k").status == 200
    answer = client.call("POST", f"{JOBS}/{failed.id}/retry", idempotency_key="k")
    assert (answer.status, answer.error["code"]) == (409, "idempotency_key_reused")


def test_a_dry_run_says_whether_the_checkpoint_serves_and_leaves_nothing(
    world: World, client: Client, failed: JobRecord
) -> None:
    yes = retried(client, failed, dry_run=True)
    no = retried(client, failed, dry_run=True, seed=9)
    assert yes["object"] == no["object"] == "fine_tuning.plan"
    assert yes["resumption"]["step"] == 40
    assert no["resumption"]["differences"] == ["seed: 42 -> 9"]
    assert len(client.call("GET", JOBS).body["data"]) == 1
    assert world.queue.take() == []


def test_a_dry_run_of_a_large_file_goes_by_its_name_and_size(
    client: Client, failed: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spotune.service.jobs.preparation.IN_REQUEST_BYTES", 1000)
    assert retried(client, failed, dry_run=True)["resumption"]["step"] == 40
    other = client.upload(chat_rows(41))
    assert retried(client, failed, dry_run=True, training_file=other)["resumption"]["step"] == 0


def test_a_large_file_is_checked_after_the_answer_and_its_checkpoint_serves(
    world: World, client: Client, failed: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "IN_REQUEST_BYTES", 10)
    job = retried(client, failed)
    assert (job["status"], job["spotune"]["resumption"]) == ("validating_files", None)
    world.run_queue()
    assert client.call("GET", f"{JOBS}/{job['id']}").body["spotune"]["resumption"]["step"] == 40
    assert copied(world, job["id"]).keys() == WHOLE


@pytest.mark.parametrize(
    ("changes", "code", "param"),
    [
        ({"colour": "red"}, "unknown_field", "colour"),
        ({"colour": None}, "unknown_field", "colour"),
        ({"constraints": {"budget": 3}}, "unknown_field", "constraints.budget"),
        ({"constraints": {"budget": None}}, "unknown_field", "constraints.budget"),
        ({"constraints": {"budget_usd": 0}}, "invalid_value", "constraints.budget_usd"),
        ({"constraints": 5}, "invalid_value", "constraints"),
        ({"method": {"supervised": {"epochs": None}}}, "unknown_field", "method.supervised.epochs"),
        ({"model": None}, "missing_field", "model"),
        ({"constraints": {"budget_usd": 0.000001}}, "budget_too_small", None),
    ],
)
def test_a_bad_change_is_refused_by_name_and_nothing_starts(
    world: World, client: Client, failed: JobRecord, changes: dict[str, Any], code: str, param: str | None
) -> None:
    answer = retry(client, failed, **changes)
    assert answer.status == 400, answer.raw
    if param is not None:
        assert (answer.error["code"], answer.error["param"]) == (code, param)
    assert len(client.call("GET", JOBS).body["data"]) == 1
    assert world.queue.take() == []


def test_null_sets_a_field_back_and_a_group_that_was_left_out_is_filled(
    world: World, client: Client, failed: JobRecord
) -> None:
    hyperparameters = {"n_epochs": 4, "batch_size": None}
    changes = {"constraints": None, "method": {"supervised": {"hyperparameters": hyperparameters}}}
    request = record(world, retried(client, failed, **changes)["id"]).request
    assert (request.constraints.budget_usd, request.constraints.market) == (None, "auto")
    assert (request.chosen_hyperparameters.n_epochs, request.chosen_hyperparameters.batch_size) == (4, "auto")


def test_a_body_is_not_needed_and_another_shape_is_refused(client: Client, failed: JobRecord) -> None:
    assert client.call("POST", f"{JOBS}/{failed.id}/retry").status == 200
    for body in ([], "x", 5):
        answer = client.call("POST", f"{JOBS}/{failed.id}/retry", body)
        assert answer.status == 400, (body, answer.raw)


def test_what_lives_or_succeeded_is_not_retried(world: World, client: Client) -> None:
    job = started(world, client)
    answers = [retry(client, job)]
    client.call("POST", f"{JOBS}/{job.id}/pause")
    world.run_queue()
    world.training_jobs.observe(f"{job.id}-1", status="Stopped", secondary_status="Stopped")
    observe(world.here, f"{job.id}-1")
    world.run_queue()  # its pause is told
    answers += [retry(client, job), retry(client, job, dry_run=True)]
    assert [(answer.status, answer.error["code"]) for answer in answers] == [(409, "wrong_state")] * 3
    assert "resume" in answers[1].error["message"]
    assert world.queue.take() == []


def test_a_cancelled_job_waits_for_its_last_training_job_and_is_retried_then(world: World, client: Client) -> None:
    job = started(world, client)
    leave_checkpoint(world.objects, job, 7)
    leave_notes(world.objects, job, step=7, total_steps=10)
    live = record(world, job.id)
    (attempt,) = live.attempts
    given_up = {"state": "cancelled", "attempts": (attempt.with_(outcome="stopped_by_user"),)}
    left_over = live.with_(version=live.version + 1, **given_up)  # such a record needs a lost answer and a race
    world.store.commit(live, Decision(job=left_over), limit=10**9)
    answer = retry(client, job)
    assert (answer.status, answer.error["code"]) == (409, "training_job_lives")
    world.training_jobs.observe(f"{job.id}-1", status="Stopped", secondary_status="Stopped")
    observe(world.here, f"{job.id}-1")
    assert retried(client, job)["spotune"]["resumption"]["step"] == 7


def test_a_job_that_was_cancelled_before_its_launch_is_retried_from_the_beginning(world: World, client: Client) -> None:
    body = {"model": tiny_model.NAME, "training_file": client.upload(chat_rows(40))}
    job_id = client.call("POST", JOBS, body).body["id"]
    client.call("POST", f"{JOBS}/{job_id}/cancel")
    world.run_queue()
    job = retried(client, record(world, job_id))
    assert "left no checkpoint" in job["spotune"]["resumption"]["message"]
    assert any("left no checkpoint" in warning for warning in job["spotune"]["plan"]["warnings"])
    world.run_queue()
    assert list(world.training_jobs.specs) == [f"{job['id']}-1"]


def test_another_tenants_job_is_not_retried(client: Client, stranger: Client, failed: JobRecord) -> None:
    answer = retry(stranger, failed)
    assert (answer.status, answer.error["code"]) == (404, "job_not_found")
    assert stranger.call("GET", JOBS).body["data"] == []


def test_a_checkpoint_that_is_not_whole_does_not_exist(world: World, client: Client) -> None:
    job = started(world, client)
    whole = leave_checkpoint(world.objects, job, 10, best_step=10)
    assert whole.endswith("/checkpoint-10/")
    for step, harm in (
        (20, lambda folder: world.objects.delete(folder + "optimizer.pt")),
        (30, lambda folder: world.objects.write(folder + "weights.safetensors", b"cut")),
        (40, lambda folder: world.objects.write(folder + "manifest.json", b'{"half')),
        (50, lambda folder: world.objects.delete(folder + "manifest.json")),
        (60, lambda folder: world.objects.write(folder + "state.json", b"x" * 3)),
    ):
        harm(leave_checkpoint(world.objects, job, step, best_step=10))
    leave_checkpoint(world.objects, job, 70, best_step=65)
    leave_notes(world.objects, job, step=75, total_steps=100)
    seen = retried(client, fail(world, job))["spotune"]["resumption"]
    assert (seen["step"], seen["best_step"]) == (10, 10)


def test_without_a_word_of_the_total_the_whole_run_is_planned(world: World, client: Client) -> None:
    job = started(world, client)
    leave_checkpoint(world.objects, job, 40)
    fail(world, job)
    assert job.plan is not None
    again = retried(client, job)["spotune"]
    assert again["resumption"]["step"] == 40
    assert "not known" in again["resumption"]["message"]
    assert again["plan"]["chosen"]["billed_hours"] == job.plan.chosen.billed_hours.model_dump()


def test_a_retry_of_a_retry_that_never_ran_goes_on_from_the_first_jobs_checkpoint(
    world: World, client: Client, failed: JobRecord
) -> None:
    first = retried(client, failed, suffix="a")
    client.call("POST", f"{JOBS}/{first['id']}/cancel")
    world.run_queue()
    second = retried(client, record(world, first["id"]))
    assert (second["spotune"]["retry_of"], second["spotune"]["resumption"]["job_id"]) == (first["id"], failed.id)
    world.run_queue()
    assert copied(world, second["id"]).keys() == WHOLE


def test_a_retry_of_a_retry_that_ran_goes_on_from_its_own(world: World, client: Client, failed: JobRecord) -> None:
    first = retried(client, failed)
    world.run_queue()
    leave_checkpoint(world.objects, record(world, first["id"]), 60, best_step=20)
    second = retried(client, fail(world, record(world, first["id"])))["spotune"]["resumption"]
    assert (second["job_id"], second["step"], second["best_step"]) == (first["id"], 60, 20)


@pytest.mark.parametrize("code", ["checkpoint_of_another_config", "checkpoint_of_another_model"])
def test_a_checkpoint_that_the_container_refused_is_not_offered_again(world: World, client: Client, code: str) -> None:
    job = started(world, client)
    leave_checkpoint(world.objects, job, 40)
    again = retried(client, fail(world, job, code))
    assert again["spotune"]["resumption"]["step"] == 0


def test_a_copy_that_is_killed_anywhere_is_finished_by_the_next_delivery_and_copies_nothing_twice(
    world: World, client: Client, failed: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = retried(client, failed)
    (message,) = world.queue.take()
    whole_copy = world.objects.copy
    done: list[str] = []

    def killed_after_one(source: str, target: str) -> None:
        if len(done) == allowed:
            raise Killed
        whole_copy(source, target)
        done.append(target)

    monkeypatch.setattr(world.objects, "copy", killed_after_one)
    for allowed in range(len(WHOLE)):  # noqa: B007 - the function above reads it
        world.queue.send(message)
        with pytest.raises(Killed):
            world.run_queue()
        assert f"{job['id']}-1" not in world.training_jobs.specs, "it starts only once all of it is there"
    allowed = len(WHOLE)
    world.queue.send(message)
    world.run_queue()
    assert f"{job['id']}-1" in world.training_jobs.specs
    assert set(copied(world, job["id"])) == WHOLE
    assert len(done) == len(set(done)) == len(WHOLE)
    assert done[-1].endswith("checkpoint-40/manifest.json")


def test_a_late_second_delivery_does_not_write_over_what_the_running_job_has_written(
    world: World, client: Client, failed: JobRecord
) -> None:
    job = retried(client, failed)
    (message,) = world.queue.take()
    world.queue.send(message)
    world.run_queue()
    history = layout.checkpoints_uri(folder_of(record(world, job["id"]))) + HISTORY_NAME
    world.objects.write(history, b'{"lost_steps": 5}')
    world.queue.send(message)
    world.run_queue()
    assert world.objects.read(history) == b'{"lost_steps": 5}'
    assert len(world.training_jobs.specs) == 2


def test_s3_that_does_not_answer_costs_time_and_the_reconciler_does_not_crowd_a_slow_copy(
    world: World, client: Client, failed: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hiccup(source: str, target: str) -> None:
        raise Unavailable("S3 does not answer.", code="aws_unavailable")

    job = retried(client, failed)
    with monkeypatch.context() as broken:
        broken.setattr(world.objects, "copy", hiccup)
        with pytest.raises(Unavailable):
            world.run_queue()
    queued = []
    for seconds in (61, *[60] * 13):
        world.clock.now += seconds
        queued.append(reconcile(world.here).commands_queued)
    assert sum(queued) == 1, "a copy may take minutes: its command is not queued once a minute"
    world.run_queue()
    assert f"{job['id']}-1" in world.training_jobs.specs


def test_a_checkpoint_that_is_gone_at_the_launch_fails_the_retry_before_it_costs_anything(
    world: World, client: Client, failed: JobRecord
) -> None:
    job = retried(client, failed)
    folder = layout.checkpoint_uri(folder_of(failed), 40)
    world.objects.delete(folder + "optimizer.pt")
    world.run_queue()
    ended = client.call("GET", f"{JOBS}/{job['id']}").body
    assert (ended["status"], ended["error"]["code"]) == ("failed", "checkpoint_gone")
    assert (ended["spotune"]["money"]["reserved"], ended["spotune"]["money"]["billed"]) == (0, 0)
    assert len(world.training_jobs.specs) == 1
    again = retried(client, record(world, job["id"]))
    assert again["spotune"]["resumption"]["step"] == 20


def test_a_copy_that_is_not_permitted_fails_the_retry_in_words(
    world: World, client: Client, failed: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: str, target: str) -> None:
        raise AwsRefused("AccessDenied", "s3:PutObject")

    job = retried(client, failed)
    monkeypatch.setattr(world.objects, "copy", refuse)
    world.run_queue()
    ended = client.call("GET", f"{JOBS}/{job['id']}").body
    assert (ended["status"], ended["error"]["code"]) == ("failed", "permission_missing")


def test_a_cancel_while_the_checkpoint_is_copied_starts_nothing(
    world: World, client: Client, failed: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = retried(client, failed)
    whole_copy = world.objects.copy

    def cancelled_meanwhile(source: str, target: str) -> None:
        client.call("POST", f"{JOBS}/{job['id']}/cancel")
        whole_copy(source, target)

    monkeypatch.setattr(world.objects, "copy", cancelled_meanwhile)
    world.run_queue()
    ended = client.call("GET", f"{JOBS}/{job['id']}").body
    assert (ended["status"], ended["spotune"]["money"]["reserved"]) == ("cancelled", 0)
    assert list(world.training_jobs.specs) == [f"{failed.id}-1"]


@pytest.fixture
def crowded() -> Crowded:
    """A tenant with one place, a job of its own that failed and has checkpoints, and another one in its place."""
    world = make_world(jobs_per_tenant=1)
    install(world.here)
    client = client_of(world.here, "acme")
    failed = failed_with_checkpoints(world, client)
    return Crowded(world, client, failed, started(world, client, suffix="other"))


def test_a_retry_in_line_has_its_copy_before_s3_forgets_the_earlier_jobs_checkpoints(crowded: Crowded) -> None:
    before = copied(crowded.world, crowded.failed.id)
    job = crowded.in_line()
    assert copied(crowded.world, job.id) == {name: before[name] for name in WHOLE}
    crowded.forget(crowded.failed)
    crowded.turn_comes()
    assert f"{job.id}-1" in crowded.world.training_jobs.specs
    assert copied(crowded.world, job.id).keys() == WHOLE
    assert record(crowded.world, job.id).error is None


def test_a_retry_whose_large_file_is_checked_after_the_answer_has_its_copy_in_line_too(
    crowded: Crowded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "IN_REQUEST_BYTES", 10)
    assert copied(crowded.world, crowded.in_line().id).keys() == WHOLE


def test_a_retry_that_starts_at_once_is_copied_for_by_its_launch_alone(
    world: World, client: Client, failed: JobRecord
) -> None:
    retried(client, failed)
    assert len(world.queue.take()) == 1


def test_a_copy_in_line_that_s3_refuses_is_made_once_it_does_not(
    crowded: Crowded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: str, target: str) -> None:
        raise AwsRefused("AccessDenied", "s3:PutObject")

    with monkeypatch.context() as broken:
        broken.setattr(crowded.world.objects, "copy", refuse)
        job = crowded.in_line()
    assert copied(crowded.world, job.id) == {}
    crowded.pass_by()
    assert copied(crowded.world, job.id).keys() == WHOLE


def test_a_checkpoint_that_is_gone_while_its_retry_stands_in_line_is_said_by_the_launch(crowded: Crowded) -> None:
    answer = retried(crowded.client, crowded.failed)
    crowded.forget(crowded.failed)
    crowded.world.run_queue()
    assert record(crowded.world, answer["id"]).state == "queued"
    crowded.turn_comes()
    error = record(crowded.world, answer["id"]).error
    assert error is not None
    assert error.code == "checkpoint_gone"


def test_a_copy_whose_retry_is_cancelled_in_line_goes_as_those_of_any_ended_job(crowded: Crowded) -> None:
    job = crowded.in_line()
    assert crowded.released(job) == set()
    crowded.cancel(job)
    assert crowded.released(job) == WHOLE


def test_a_copy_that_is_made_while_its_retry_is_cancelled_goes_too(
    crowded: Crowded, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_copy = crowded.world.objects.copy

    def cancelled_meanwhile(source: str, target: str) -> None:
        if record(crowded.world, job_id).state != "cancelled":
            crowded.cancel(record(crowded.world, job_id))
        whole_copy(source, target)

    job_id = str(retried(crowded.client, crowded.failed)["id"])
    monkeypatch.setattr(crowded.world.objects, "copy", cancelled_meanwhile)
    crowded.world.run_queue()
    assert crowded.released(record(crowded.world, job_id)) == WHOLE


def test_a_copy_of_a_retry_that_is_refused_at_its_launch_goes_too(
    world: World, client: Client, failed: JobRecord
) -> None:
    world.training_jobs.answers.append(TrainingJobRefused("invalid", "no such image"))
    job = retried(client, failed)
    world.run_queue()
    assert record(world, job["id"]).state == "failed"
    assert released(world, record(world, job["id"])) == WHOLE


def test_a_late_delivery_brings_nothing_back_of_what_a_running_job_has_outgrown(crowded: Crowded) -> None:
    job = crowded.in_line()
    crowded.turn_comes()
    folder = layout.checkpoint_uri(folder_of(job), 40)
    for one in tuple(crowded.world.objects.list(folder)):
        crowded.world.objects.delete(one.uri)
    assert carry_while_it_waits(crowded.world.here, record(crowded.world, job.id))
    assert list(crowded.world.objects.list(folder)) == []


def test_a_retry_that_is_paused_before_its_launch_has_its_copy(world: World, client: Client, failed: JobRecord) -> None:
    job = retried(client, failed)
    client.call("POST", f"{JOBS}/{job['id']}/pause")
    world.run_queue()
    assert record(world, job["id"]).state == "paused"
    assert list(world.training_jobs.specs) == [f"{failed.id}-1"]
    assert copied(world, job["id"]).keys() == WHOLE


def test_a_retry_of_one_that_was_cancelled_in_line_goes_on_from_its_copy(crowded: Crowded) -> None:
    first = crowded.in_line()
    crowded.cancel(first)
    crowded.forget(crowded.failed)
    second = retried(crowded.client, first, suffix="again")["spotune"]["resumption"]
    assert (second["job_id"], second["step"], second["total_steps"]) == (first.id, 40, 100)


def test_a_copy_that_was_cut_off_is_not_gone_on_from(crowded: Crowded) -> None:
    first = crowded.in_line()
    crowded.cancel(first)
    crowded.world.objects.delete(layout.checkpoint_uri(folder_of(first), 40) + "manifest.json")
    second = retried(crowded.client, first, suffix="again")["spotune"]["resumption"]
    assert (second["job_id"], second["step"]) == (crowded.failed.id, 40)


def test_a_retry_beyond_the_monthly_limit_is_refused_before_anything_is_recorded() -> None:
    poor = make_world(monthly_limit_usd=3)
    install(poor.here)
    client = client_of(poor.here, "acme")
    job = fail(poor, started(poor, client))
    other = started(poor, client)
    answer = retry(client, job)
    assert (answer.status, answer.error["code"]) == (400, "monthly_limit_reached")
    assert {one["id"] for one in client.call("GET", JOBS).body["data"]} == {job.id, other.id}


def test_the_document_describes_the_changes_of_a_retry(client: Client) -> None:
    document = client.call("GET", "/openapi.json").body
    operation = document["paths"]["/v1/fine_tuning/jobs/{job_id}/retry"]["post"]
    (content,) = operation["requestBody"]["content"].values()
    schemas = document["components"]["schemas"]
    changes = schemas[content["schema"]["$ref"].rpartition("/")[2]]
    assert set(changes["properties"]) == set(schemas["JobRequest"]["properties"])
    assert "required" not in changes
    assert changes["additionalProperties"] is False
    assert {"type": "null"} in changes["properties"]["constraints"]["anyOf"]
    constraints = schemas["ConstraintsChanges"]["properties"]
    assert {"type": "null"} in constraints["market"]["anyOf"]
    assert "HyperparametersChanges" in schemas
    for reference in json.dumps(document).split("#/components/schemas/")[1:]:
        assert reference.partition('"')[0] in schemas
