"""A model from the hub to a trained adapter: added by the command, trained by a job that no hub is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from spotune.cli import main
from spotune.contracts.layout import split_uri
from spotune.local.deployment import client
from spotune.local.state import StackState
from tests.embedded.standing_still import standing_still
from tests.mirror.hub import FakeHub, serving
from tests.polling import wait_for
from tests.tiny_model import chat_rows

pytestmark = [pytest.mark.embedded, pytest.mark.torch]

NAME = "far/tiny"


@pytest.fixture(scope="module")
def far(tiny_folder: Path) -> Iterator[FakeHub]:
    files = {path.name: path.read_bytes() for path in tiny_folder.iterdir() if path.name != "spotune.json"}
    with serving() as hub:
        hub.add(NAME, files | {"LICENSE": b"As you like."}, card={"license": "apache-2.0"})
        yield hub


@pytest.fixture
def added(
    stack: StackState, far: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> dict[str, Any]:
    """The manifest of the model, as the command prints it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPOTUNE_HOME", str(stack.home))
    monkeypatch.setenv("HF_ENDPOINT", far.address)
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert main.run(["models", "add", NAME, "--json"]) == 0, capsys.readouterr().err
    far.asked.clear()
    return dict(json.loads(capsys.readouterr().out))


def submit(sdk: openai.OpenAI, epochs: int = 1) -> str:
    uploaded = sdk.files.create(file=("train.jsonl", chat_rows(40)), purpose="fine-tune")
    job = sdk.fine_tuning.jobs.create(
        model=NAME,
        training_file=uploaded.id,
        seed=5,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": epochs, "batch_size": 4}}},
        extra_body={
            "constraints": {"budget_usd": 5},
            "training": {"max_sequence_length": 64, "packing": False, "save_interval_seconds": 1},
        },
    )
    return job.id


def ended(sdk: openai.OpenAI, job_id: str) -> Any:
    def look() -> Any:
        job = sdk.fine_tuning.jobs.retrieve(job_id)
        return job if job.status in ("succeeded", "failed", "cancelled") else None

    return wait_for(look, f"the end of {job_id}")


def test_a_job_trains_from_the_mirror_without_a_network_or_a_hub(
    stack: StackState, added: dict[str, Any], far: FakeHub, sdk: openai.OpenAI
) -> None:
    job = ended(sdk, submit(sdk))
    assert job.status == "succeeded", job.error
    described = client("sagemaker", stack.double_url).describe_training_job(TrainingJobName=f"{job.id}-1")
    assert described["EnableNetworkIsolation"]
    sources = {one["ChannelName"]: one["DataSource"]["S3DataSource"]["S3Uri"] for one in described["InputDataConfig"]}
    assert sources["model"] == f"s3://{stack.models_bucket}/base/{NAME}/{added['revision']}/"
    bucket, folder = split_uri(sources["config"])
    body = client("s3", stack.emulator_url).get_object(Bucket=bucket, Key=folder + "training.json")["Body"].read()
    assert len(json.loads(body)["model_sha256"]) == 64
    assert far.asked == []


def test_a_model_that_a_training_job_reads_is_not_removed(
    stack: StackState, added: dict[str, Any], sdk: openai.OpenAI, capsys: Any
) -> None:
    job_id = submit(sdk, epochs=40)
    with standing_still(stack, f"{job_id}-1", 1):
        assert main.run(["models", "remove", NAME, "--yes", "--json"]) == 2
        error = json.loads(capsys.readouterr().err)["error"]
        assert error["code"] == "model_in_use"
        assert f"{job_id}-1" in error["message"]
    sdk.fine_tuning.jobs.cancel(job_id)
    ended(sdk, job_id)


def test_weights_that_somebody_exchanged_in_the_bucket_are_never_trained_on(
    stack: StackState, added: dict[str, Any], sdk: openai.OpenAI, capsys: Any
) -> None:
    s3, key = client("s3", stack.emulator_url), f"base/{NAME}/{added['revision']}/model.safetensors"
    before = s3.get_object(Bucket=stack.models_bucket, Key=key)
    body = before["Body"].read()
    s3.put_object(
        Bucket=stack.models_bucket, Key=key, Body=body[:-1] + bytes([body[-1] ^ 1]), Metadata=before["Metadata"]
    )
    job = ended(sdk, submit(sdk))
    assert (job.status, job.error.code) == ("failed", "model_differs")
    assert "model.safetensors has the sha256" in str(job.model_extra["spotune"]["error"])
    assert main.run(["models", "verify", NAME, "--json"]) == 2
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "base_model_differs"
    s3.put_object(Bucket=stack.models_bucket, Key=key, Body=body, Metadata=before["Metadata"])
    assert main.run(["models", "verify", NAME, "--json"]) == 0
