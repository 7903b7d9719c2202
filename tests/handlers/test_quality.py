"""The quality of a job's files, as the API answers it."""

from __future__ import annotations

import json
import logging

import pytest

from spotune.aws.base import AwsRefused
from spotune.contracts import layout
from spotune.service.jobs import preparation, submit
from tests.handlers.test_jobs import JOBS, body_for, folder_of, submitted
from tests.in_process import Client, World
from tests.tiny_model import chat_rows

KEY = "AKIAQ3EGRZ7LM2NPW5XK"


def row(asked: str, answered: str) -> bytes:
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    return json.dumps({"messages": turns}).encode() + b"\n"


def kinds(report: dict[str, object]) -> dict[str, list[int]]:
    return {issue["kind"]: [each["line"] for each in issue["findings"]] for issue in report["issues"]}  # type: ignore[attr-defined]


def test_a_jobs_files_are_looked_at_and_what_was_seen_stays_readable(world: World, client: Client) -> None:
    training = client.upload(chat_rows(40) + row("Which key opens it?", f"It is {KEY}, I think."))
    validation = client.upload(chat_rows(3) + row("What is it made of?", "It is made of stone and of wood."))
    job = client.call("POST", JOBS, {**body_for(training), "validation_file": validation}).body
    seen = client.call("GET", f"{JOBS}/{job['id']}/quality")
    assert seen.status == 200
    assert kinds(seen.body["training"])["aws_key"] == [41]
    assert kinds(seen.body["validation"])["leaked"] == [1, 2, 3]
    assert seen.body["validation"]["compared_with"] == seen.body["training"]["uri"]
    kept = world.objects.read(layout.quality_uri(folder_of(job["id"])))
    assert KEY.encode() not in kept
    assert KEY not in json.dumps(seen.body)
    log = client.call("GET", f"{JOBS}/{job['id']}/events").body["data"]
    warnings = [line["message"] for line in log if line["level"] == "warn"]
    assert warnings == [
        "3 rows of the validation file are also trained on: its scores will be better than new data's. "
        f"See them with `spotune data quality {job['id']}`."
    ]


def test_large_files_are_looked_at_when_they_are_checked(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (preparation, submit):
        monkeypatch.setattr(module, "IN_REQUEST_BYTES", 100)
    job = submitted(client, client.upload(chat_rows(40)))
    missing = client.call("GET", f"{JOBS}/{job['id']}/quality")
    assert (missing.status, missing.body["error"]["code"]) == (404, "quality_missing")
    world.run_queue()
    assert client.call("GET", f"{JOBS}/{job['id']}/quality").body["training"]["rows"] == 40


def test_a_plan_keeps_nothing(world: World, client: Client) -> None:
    before = [one.uri for one in world.objects.list(f"s3://{world.here.settings.artifacts_bucket}/")]
    assert client.call("POST", JOBS, {**body_for(client.upload(chat_rows(40))), "dry_run": True}).status == 200
    assert [one.uri for one in world.objects.list(f"s3://{world.here.settings.artifacts_bucket}/")] == before


def test_a_job_runs_though_its_report_cannot_be_kept(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(uri: str, body: bytes) -> None:
        raise AwsRefused("AccessDenied", "no")

    file_id = client.upload(chat_rows(40))
    monkeypatch.setattr(world.objects, "write", refuse)
    with caplog.at_level(logging.WARNING):
        job = client.call("POST", JOBS, body_for(file_id)).body
    assert job["status"] == "queued"
    assert "quality report cannot be kept" in caplog.text
    assert client.call("GET", f"{JOBS}/{job['id']}/quality").status == 404


def test_another_tenants_report_is_not_shown(client: Client, stranger: Client) -> None:
    job = submitted(client, client.upload(chat_rows(40)))
    assert stranger.call("GET", f"{JOBS}/{job['id']}/quality").status == 404
