"""The whole path for real: HTTP, Lambdas, queue, the double, the container's process, S3, settled cost."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import httpx
import openai
import pytest

from spotune.contracts.layout import split_uri
from spotune.contracts.training import TrainingReport
from spotune.local.deployment import client
from spotune.local.state import StackState
from tests import tiny_model
from tests.embedded.standing_still import standing_still
from tests.polling import wait_for
from tests.tiny_model import chat_rows

pytestmark = [pytest.mark.embedded, pytest.mark.torch]


EPOCHS = 40
"""Long enough to be stopped on the way."""


TRACKERS = [{"type": "tensorboard"}, {"type": "wandb", "wandb": {"project": "p"}}]


@pytest.fixture(scope="module")
def straight(trainable: StackState) -> Any:
    """A job that ran to its end undisturbed."""
    sdk = openai.OpenAI(base_url=f"{trainable.api_url}/v1", api_key=trainable.api_key, max_retries=0)
    return finished(sdk, submit(sdk, EPOCHS))


def submit(sdk: openai.OpenAI, epochs: int, **extra: object) -> str:
    uploaded = sdk.files.create(file=("train.jsonl", chat_rows(64)), purpose="fine-tune")
    job = sdk.fine_tuning.jobs.create(
        model=tiny_model.NAME,
        training_file=uploaded.id,
        seed=5,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": epochs, "batch_size": 4}}},
        extra_body={
            "constraints": {"budget_usd": 5},
            "adapter": {"type": "lora", "rank": 4, "dropout": 0.1},
            "training": {"max_sequence_length": 64, "packing": False, "save_interval_seconds": 1},
            "gate": {"better_than_base": True},
            **extra,
        },
    )
    return job.id


def details(job: Any) -> dict[str, Any]:
    return dict(job.model_extra["spotune"])


def checkpoints(sdk: openai.OpenAI, job_id: str) -> list[Any]:
    return list(sdk.fine_tuning.jobs.checkpoints.list(job_id, limit=1).data)


def wait_for_checkpoint(sdk: openai.OpenAI, job_id: str, step: int) -> None:
    def reached() -> bool | None:
        return True if any(one.step_number >= step for one in checkpoints(sdk, job_id)) else None

    wait_for(reached, f"a checkpoint of step {step} in S3")


def keys_below(stack: StackState, job_id: str) -> dict[str, str]:
    """What lies in a job's folder in S3, with its ETags."""
    s3 = client("s3", stack.emulator_url)
    (bucket,) = (one["Name"] for one in s3.list_buckets()["Buckets"] if "artifacts" in one["Name"])
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    found = (one for page in pages for one in page.get("Contents", []))
    return {one["Key"]: one["ETag"] for one in found if f"/{job_id}/" in one["Key"]}


def forecast_hours(job: Any) -> float:
    return float(details(job)["plan"]["chosen"]["billed_hours"]["mid"])


def finished(sdk: openai.OpenAI, job_id: str) -> Any:
    def look() -> Any:
        job = sdk.fine_tuning.jobs.retrieve(job_id)
        return job if job.status in ("succeeded", "failed", "cancelled") else None

    return wait_for(look, f"the end of {job_id}")


def adapter_sha256(stack: StackState, job: Any) -> str:
    bucket, folder = split_uri(details(job)["output_uri"])
    body = client("s3", stack.emulator_url).get_object(Bucket=bucket, Key=folder + "adapter_model.safetensors")
    return hashlib.sha256(body["Body"].read()).hexdigest()


@pytest.mark.proves(method="lora")
def test_a_job_trains_for_real_and_its_money_is_settled(trainable: StackState, sdk: openai.OpenAI) -> None:
    job = finished(sdk, submit(sdk, epochs=4, integrations=TRACKERS))
    seen = details(job)
    assert job.status == "succeeded", (job.error, seen["error"])
    report = TrainingReport.model_validate(seen["report"])
    assert report.tuned.eval_loss < report.base.eval_loss
    assert job.fine_tuned_model is not None
    (attempt,) = seen["attempts"]
    assert attempt["billable_seconds"] > 0
    assert seen["money"]["reserved"] == 0
    assert seen["money"]["billed"] == -(-attempt["on_demand_price"] * attempt["billable_seconds"] // 3600)
    assert len(adapter_sha256(trainable, job)) == 64
    assert [warning for warning in report.warnings if not warning.startswith("The disk took")] == []
    published = [key.rpartition("/model/trackers/")[2] for key in keys_below(trainable, job.id)]
    assert [name for name in published if name.startswith("tensorboard/events.out.tfevents.")]
    assert [name for name in published if name.startswith("wandb/wandb/offline-run-") and name.endswith(".wandb")]
    messages = [event.message for event in sdk.fine_tuning.jobs.list_events(job.id, limit=100).data]
    assert messages[-1] == "Job created."
    assert any("Model registered" in message for message in messages)
    assert len(sdk.fine_tuning.jobs.checkpoints.list(job.id).data) >= 1
    printed = httpx.get(f"{trainable.double_url}/_double/logs/{attempt['name']}", timeout=30).json()["Text"]
    assert '"step"' in printed
    assert "Say the number" not in printed, "no row and no prompt is in the container's log"
    assert 0 < report.loading_seconds < report.elapsed_seconds <= attempt["training_seconds"] + 1
    accuracy = httpx.get(
        f"{trainable.api_url}/v1/accuracy", headers={"Authorization": f"Bearer {trainable.api_key}"}, timeout=30
    ).json()
    print(accuracy["corrections"])
    assert next(run for run in accuracy["data"] if run["id"] == job.id) == seen["run"]
    assert seen["run"]["actual"]["tokens_per_second"] > 0
    assert not [factor for factor in accuracy["corrections"]["factors"] if factor["quantity"] in ("speed", "memory")]


def test_an_interruption_at_any_step_changes_no_bit_of_the_weights(
    trainable: StackState, sdk: openai.OpenAI, straight: Any
) -> None:
    step = random.randint(1, 120)
    print(f"interrupting once a checkpoint of step {step} or later is in S3")
    interrupted_id = submit(sdk, EPOCHS, integrations=TRACKERS)
    name = f"{interrupted_id}-1"
    door = f"{trainable.double_url}/_double/interrupt"
    with standing_still(trainable, name, step):
        wait_for_checkpoint(sdk, interrupted_id, step)
        httpx.post(door, json={"TrainingJobName": name, "restart_after_seconds": 0.5}).raise_for_status()
    interrupted = finished(sdk, interrupted_id)

    assert (interrupted.status, straight.status) == ("succeeded", "succeeded")
    assert details(interrupted)["attempts"][0]["interruptions"] == 1
    assert len(details(interrupted)["report"]["resumes"]) == 1
    assert details(straight)["report"]["resumes"] == []
    files = [key for key in keys_below(trainable, interrupted_id) if "/model/trackers/tensorboard/events" in key]
    assert len(files) == 2, "what the first process wrote came back with its checkpoints"
    assert adapter_sha256(trainable, interrupted) == adapter_sha256(trainable, straight)


def test_a_job_cancelled_on_its_way_is_retried_from_its_checkpoint_to_the_same_weights(
    trainable: StackState, sdk: openai.OpenAI, straight: Any
) -> None:
    job_id = submit(sdk, EPOCHS)
    with standing_still(trainable, f"{job_id}-1", 20):
        wait_for_checkpoint(sdk, job_id, 20)
        sdk.fine_tuning.jobs.cancel(job_id)
    job = finished(sdk, job_id)
    assert job.status == "cancelled"
    assert details(job)["money"]["reserved"] == 0
    assert details(job)["attempts"][0]["billable_seconds"] > 0
    left = keys_below(trainable, job_id)

    headers = {"Authorization": f"Bearer {trainable.api_key}"}
    answer = httpx.post(
        f"{trainable.api_url}/v1/fine_tuning/jobs/{job_id}/retry",
        json={"constraints": {"budget_usd": 6}, "training": {"save_interval_seconds": 3}},
        headers=headers,
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    resumption = answer.json()["spotune"]["resumption"]
    newest = checkpoints(sdk, job_id)[0].step_number
    assert (resumption["job_id"], resumption["step"]) == (job_id, newest)
    assert newest >= 20

    retried = finished(sdk, answer.json()["id"])
    assert retried.status == "succeeded", (retried.error, details(retried)["error"])
    report = TrainingReport.model_validate(details(retried)["report"])
    assert [resume.step for resume in report.resumes] == [newest]
    assert report.lost_steps == 0
    assert report.base == TrainingReport.model_validate(details(straight)["report"]).base
    assert adapter_sha256(trainable, retried) == adapter_sha256(trainable, straight)
    assert keys_below(trainable, job_id) == left
    assert forecast_hours(retried) <= forecast_hours(job)
