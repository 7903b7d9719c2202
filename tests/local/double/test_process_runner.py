"""Jobs that run for real, seen through boto3."""

from __future__ import annotations

import io
import json
import random
import tarfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from spotune.local.double.clock import SystemClock
from tests.local.double.conftest import (
    BUCKET,
    QUICK,
    Site,
    alive,
    channel,
    control,
    on_demand,
    training_job,
    until,
)
from tests.ports import free_port

pytestmark = pytest.mark.embedded


def test_a_job_gets_its_channels_runs_and_leaves_its_model_uncompressed_in_s3(site: Site) -> None:
    site.put("first/config/training.json", b'{"seed": 7}')
    site.entry_point("""
        config = json.loads((root / "input/data/config/training.json").read_text())
        hyperparameters = json.loads((root / "input/config/hyperparameters.json").read_text())
        (root / "model/deep").mkdir()
        (root / "model/report.json").write_text(json.dumps([config, hyperparameters, os.environ["TRAINING_JOB_NAME"]]))
        (root / "model/deep/weights").write_bytes(b"w")
    """)

    site.sagemaker.create_training_job(
        **training_job(
            "first-1",
            InputDataConfig=[channel("config", f"s3://{BUCKET}/first/config/")],
            HyperParameters={"a": "1"},
        )
    )
    done = site.end("first-1")

    assert done["TrainingJobStatus"] == "Completed", done
    assert done["ModelArtifacts"]["S3ModelArtifacts"] == f"s3://{BUCKET}/first-1/output/first-1/output/model/"
    assert json.loads(site.read("first-1/output/first-1/output/model/report.json")) == [
        {"seed": 7},
        {"a": "1"},
        "first-1",
    ]
    assert site.read("first-1/output/first-1/output/model/deep/weights") == b"w"
    assert [entry["Status"] for entry in done["SecondaryStatusTransitions"]] == [
        "Starting",
        "Downloading",
        "Training",
        "Uploading",
        "Completed",
    ]
    assert 0 < done["BillableTimeInSeconds"] <= done["TrainingTimeInSeconds"]
    assert done["TrainingStartTime"] <= done["TrainingEndTime"]


COUNTER = """
    # Counts, a checkpoint a step, from wherever the newest checkpoint stands, until the test says `enough`.
    signal.signal(signal.SIGTERM, lambda *_: finish(3))
    enough = pathlib.Path(__file__).with_name("enough")
    def finish(code):
        (root / "model/step").write_text(str(step))
        os._exit(code)
    saved = [int(p.parent.name.split("-")[1]) for p in (root / "checkpoints").glob("checkpoint-*/manifest.json")]
    step = resumed = max(saved, default=0)
    print(json.dumps({"resumed": resumed}))
    while not enough.exists():
        step += 1
        folder = root / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(exist_ok=True)
        (folder / "weights").write_text(str(step) * 1000)
        (folder / "manifest.json").write_text(str(step))
        time.sleep(0.05)
    finish(0)
"""


def steps_in_s3(site: Site, name: str) -> list[int]:
    keys = [key for key in site.keys(f"{name}/checkpoints/") if key.endswith("manifest.json")]
    return sorted(int(key.split("checkpoint-")[1].split("/")[0]) for key in keys)


def logged(site: Site, name: str) -> list[dict[str, Any]]:
    text = control(site, f"logs/{name}")["Text"]
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_an_interrupted_job_goes_on_from_the_checkpoint_that_was_synced(site: Site) -> None:
    site.entry_point(COUNTER)
    site.sagemaker.create_training_job(**training_job("spot-1"))
    some = random.randint(1, 10)
    until(lambda: len(steps_in_s3(site, "spot-1")) >= some)
    # Long enough to be seen by a poll on a busy machine: what was synced is read before the restart adds to it.
    control(site, "interrupt", {"TrainingJobName": "spot-1", "restart_after_seconds": 2.0})
    site.until("spot-1", "Interrupted")
    synced = steps_in_s3(site, "spot-1")[-1]
    until(lambda: steps_in_s3(site, "spot-1")[-1] > synced)
    site.enough()

    done = site.end("spot-1")

    assert done["TrainingJobStatus"] == "Completed"
    assert [entry["resumed"] for entry in logged(site, "spot-1")] == [0, synced]
    assert int(site.read("spot-1/output/spot-1/output/model/step")) == steps_in_s3(site, "spot-1")[-1] > synced
    assert control(site, "jobs/spot-1")["Interruptions"] == 1
    assert control(site, "jobs/spot-1")["PeakMemoryBytes"] > 5_000_000
    assert not any((site.home / "double/jobs/spot-1").glob("ml*"))


def test_an_interruption_with_notice_lets_the_container_save(site: Site) -> None:
    site.entry_point("""
        def save(*_):
            (root / "checkpoints/last").write_text("saved")
            os._exit(3)
        signal.signal(signal.SIGTERM, save)
        if (root / "checkpoints/last").exists():
            sys.exit(0)
        print("ready")
        time.sleep(60)
    """)
    site.sagemaker.create_training_job(**training_job("notice-1"))
    until(lambda: "ready" in control(site, "logs/notice-1")["Text"])
    control(site, "interrupt", {"TrainingJobName": "notice-1", "notice_seconds": 10})
    assert site.end("notice-1")["TrainingJobStatus"] == "Completed"


def test_a_stopped_container_may_finish_and_its_model_is_uploaded(site: Site) -> None:
    site.entry_point(COUNTER)
    site.sagemaker.create_training_job(**on_demand("stop-1"))
    until(lambda: steps_in_s3(site, "stop-1"))
    site.sagemaker.stop_training_job(TrainingJobName="stop-1")
    assert site.describe("stop-1")["TrainingJobStatus"] in ("Stopping", "Stopped")
    done = site.end("stop-1")
    assert (done["TrainingJobStatus"], done["SecondaryStatus"]) == ("Stopped", "Stopped")
    step = int(site.read("stop-1/output/stop-1/output/model/step"))
    assert steps_in_s3(site, "stop-1")[-1] in (step, step - 1)


def test_a_container_that_ignores_sigterm_is_killed_after_the_grace_with_all_its_children(site: Site) -> None:
    site.entry_point("""
        import subprocess
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        print(json.dumps({"pid": child.pid}))
        time.sleep(600)
    """)
    site.sagemaker.create_training_job(**on_demand("deaf-1"))
    child = until(lambda: logged(site, "deaf-1"))[0]["pid"]
    began = time.monotonic()
    site.sagemaker.stop_training_job(TrainingJobName="deaf-1")
    assert site.end("deaf-1")["SecondaryStatus"] == "Stopped"
    assert time.monotonic() - began >= site.settings.timing.stop_grace
    until(lambda: not alive(child))


def test_a_child_left_behind_by_the_container_ends_with_it(site: Site) -> None:
    site.entry_point("""
        import subprocess
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        print(json.dumps({"pid": child.pid}))
    """)
    site.sagemaker.create_training_job(**on_demand("stray-1"))
    assert site.end("stray-1")["TrainingJobStatus"] == "Completed"
    assert not alive(logged(site, "stray-1")[0]["pid"])


def test_max_runtime_stops_the_container_and_keeps_its_model(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.entry_point(COUNTER)
    site.sagemaker.create_training_job(**on_demand("long-1", StoppingCondition={"MaxRuntimeInSeconds": 3600}))
    until(lambda: steps_in_s3(site, "long-1"))
    monkeypatch.setattr(SystemClock, "now", lambda _: time.time() + 3600)
    site.server._clock.call_at(0, lambda: None)  # it looks at the time when it is given something to do
    done = site.end("long-1")
    assert (done["TrainingJobStatus"], done["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")
    assert done["ModelArtifacts"]["S3ModelArtifacts"].endswith("/long-1/output/model/")


def test_without_capacity_a_spot_job_stops_at_max_wait_and_starts_where_capacity_returns_before(site: Site) -> None:
    site.entry_point("pass")
    control(site, "capacity", {"InstanceType": "ml.g5.xlarge", "available": False})
    limits = {"MaxRuntimeInSeconds": 1, "MaxWaitTimeInSeconds": 1}
    site.sagemaker.create_training_job(**training_job("wait-1", StoppingCondition=limits))
    site.sagemaker.create_training_job(**training_job("wait-2"))
    site.until("wait-2", "Pending")
    assert site.end("wait-1")["SecondaryStatus"] == "MaxWaitTimeExceeded"
    control(site, "capacity", {"InstanceType": "ml.g5.xlarge", "available": True})
    assert site.end("wait-2")["TrainingJobStatus"] == "Completed"


def test_what_the_container_leaves_in_failure_becomes_the_reason_with_its_exit_code(site: Site) -> None:
    site.entry_point("""
        (root / "output/failure").write_text('{"code": "out_of_memory"}')
        (root / "output/data/trace.txt").write_text("t")
        sys.exit(2)
    """)
    site.sagemaker.create_training_job(**on_demand("fail-1"))
    done = site.end("fail-1")
    assert done["FailureReason"] == 'AlgorithmError: {"code": "out_of_memory"}, exit code: 2'
    assert site.keys("fail-1/output/") == ["fail-1/output/fail-1/output/data/trace.txt"]


def test_an_entry_point_that_does_not_exist_fails_the_job_and_not_the_double(site: Site) -> None:
    site.script.unlink(missing_ok=True)
    site.sagemaker.create_training_job(**on_demand("none-1"))
    assert "exit code: 2" in site.end("none-1")["FailureReason"]


def test_a_channel_without_objects_is_refused_at_creation(site: Site) -> None:
    request = on_demand("gone-1", InputDataConfig=[channel("training", f"s3://{BUCKET}/no/such")])
    with pytest.raises(ClientError, match="No S3 objects found under S3 URL") as refused:
        site.sagemaker.create_training_job(**request)
    assert refused.value.response["Error"]["Code"] == "ValidationException"


def test_a_channel_that_vanishes_after_creation_fails_the_job(site: Site) -> None:
    uri = site.put("vanish/data.jsonl", b"{}")
    control(site, "capacity", {"InstanceType": "ml.g5.xlarge", "available": False})
    site.sagemaker.create_training_job(**training_job("vanish-1", InputDataConfig=[channel("training", uri)]))
    site.s3.delete_object(Bucket=BUCKET, Key="vanish/data.jsonl")
    control(site, "capacity", {"InstanceType": "ml.g5.xlarge", "available": True})
    assert "ClientError: Data download failed" in site.end("vanish-1")["FailureReason"]


def test_every_channel_form_lands_where_sagemaker_puts_it(site: Site) -> None:
    for key in ("forms/model/config.json", "forms/model/sub/a.txt", "forms/train-1.jsonl", "forms/train-2.jsonl"):
        site.put(key, key.encode())
    site.entry_point("""
        data = root / "input/data"
        found = sorted(str(path.relative_to(data)) for path in data.rglob("*") if path.is_file())
        (root / "model/found").write_text(json.dumps(found))
    """)
    channels = [
        channel("model", f"s3://{BUCKET}/forms/model/"),
        channel("one", f"s3://{BUCKET}/forms/train-1.jsonl"),
        channel("both", f"s3://{BUCKET}/forms/train-"),
    ]
    site.sagemaker.create_training_job(**on_demand("forms-1", InputDataConfig=channels))
    assert site.end("forms-1")["TrainingJobStatus"] == "Completed"
    assert json.loads(site.read("forms-1/output/forms-1/output/model/found")) == [
        *("both/train-1.jsonl", "both/train-2.jsonl"),
        *("model/config.json", "model/sub/a.txt"),
        "one/train-1.jsonl",
    ]


def test_a_large_object_is_downloaded_once_for_many_jobs_and_again_when_it_changes(site: Site) -> None:
    site.entry_point("""
        status = (root / "input/data/model/big").stat()
        (root / "model/status").write_text(json.dumps([status.st_ino, status.st_size]))
    """)
    found = []
    for number, size in enumerate((5_000_000, 5_000_000, 5_000_001)):
        site.put("big/big", b"x" * size)
        uri = f"s3://{BUCKET}/big/"
        site.sagemaker.create_training_job(**on_demand(f"big-{number}", InputDataConfig=[channel("model", uri)]))
        assert site.end(f"big-{number}")["TrainingJobStatus"] == "Completed"
        found.append(json.loads(site.read(f"big-{number}/output/big-{number}/output/model/status")))
    assert found[0] == found[1]
    assert found[2][1] == 5_000_001


def test_several_hosts_are_several_processes_that_share_the_checkpoints(site: Site) -> None:
    site.entry_point("""
        resources = json.loads((root / "input/config/resourceconfig.json").read_text())
        host = resources["current_host"]
        (root / "checkpoints" / f"rank-{host}").write_text("c")
        (root / "model" / host).write_text(json.dumps([resources["hosts"], os.environ["MASTER_PORT"]]))
    """)
    resources = {"InstanceType": "ml.g5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 50}
    site.sagemaker.create_training_job(**on_demand("two-1", ResourceConfig=resources))
    assert site.end("two-1")["TrainingJobStatus"] == "Completed"
    model = "two-1/output/two-1/output/model"
    assert json.loads(site.read(f"{model}/algo-1"))[0] == ["algo-1", "algo-2"]
    assert site.read(f"{model}/algo-1") == site.read(f"{model}/algo-2")
    assert site.keys("two-1/checkpoints/") == ["two-1/checkpoints/rank-algo-1", "two-1/checkpoints/rank-algo-2"]


def test_one_host_that_fails_takes_the_others_with_it(site: Site) -> None:
    site.entry_point("""
        if os.environ["SM_CURRENT_HOST"] == "algo-2":
            sys.exit(1)
        time.sleep(600)
    """)
    resources = {"InstanceType": "ml.g5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 50}
    site.sagemaker.create_training_job(**on_demand("two-2", ResourceConfig=resources))
    assert site.end("two-2")["TrainingJobStatus"] == "Failed"


def test_compressed_output_is_one_archive(site: Site) -> None:
    site.entry_point('(root / "model/weights").write_text("w")')
    output = {"S3OutputPath": f"s3://{BUCKET}/zip/"}
    site.sagemaker.create_training_job(**on_demand("zip-1", OutputDataConfig=output))
    uri = site.end("zip-1")["ModelArtifacts"]["S3ModelArtifacts"]
    assert uri == f"s3://{BUCKET}/zip/zip-1/output/model.tar.gz"
    with tarfile.open(fileobj=io.BytesIO(site.read("zip/zip-1/output/model.tar.gz"))) as archive:
        assert archive.getnames() == ["weights"]


def test_the_container_sees_the_requests_variables_and_none_of_the_machines(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "real")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://elsewhere")
    site.entry_point("print(json.dumps(dict(os.environ)))")
    site.sagemaker.create_training_job(**on_demand("env-1", Environment={"GIVEN": "yes"}, EnableNetworkIsolation=True))
    site.end("env-1")
    environment = logged(site, "env-1")[0]
    assert environment["GIVEN"] == "yes"
    assert environment["TRAINING_JOB_NAME"] == "env-1"
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert not {"AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"} & set(environment)


def test_a_job_whose_storage_stays_away_fails_as_sagemakers_own_fault(tmp_path: Path) -> None:
    site = Site(tmp_path, f"http://127.0.0.1:{free_port()}", replace(QUICK, storage_patience=0.2))
    site.start()
    try:
        site.sagemaker.create_training_job(
            **on_demand("away-1", InputDataConfig=[channel("training", f"s3://{BUCKET}/x")])
        )
        assert site.end("away-1")["FailureReason"].startswith("InternalServerError")
    finally:
        site.server.stop()
