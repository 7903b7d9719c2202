"""`explain` from what AWS really answers: refusals of CreateTrainingJob, and what lies in S3."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from spotune.aws.training_jobs import TrainingJobs, parse_failure
from spotune.contracts import layout
from spotune.contracts.diagnosis import Diagnosis
from spotune.contracts.files import DIRECT_UPLOAD_BYTES
from spotune.contracts.job import JobRecord
from spotune.contracts.request import JobRequest
from spotune.contracts.training import MANIFEST_NAME, Manifest, ManifestFile, Progress
from spotune.service.installation import Installation, install
from spotune.service.jobs.diagnosis import explain
from spotune.service.jobs.observation import observe
from spotune.service.jobs.submit import submit
from spotune.service.launch import run_command
from tests import tiny_model
from tests.in_process import World, client_of, world

QUOTA = (
    "The account-level service limit 'ml.g4dn.xlarge for spot training job usage' is 0 Instances, with current "
    "utilization of 0 Instances and a request delta of 1 Instances. Please use AWS Service Quotas to request an "
    "increase for this quota."
)
DENIED = (
    "User: arn:aws:sts::123456789012:assumed-role/launch/launch is not authorized to perform: "
    "sagemaker:CreateTrainingJob on resource: training-job/ftjob-x-1"
)
ASSUME = "Could not assume role arn:aws:iam::123456789012:role/training. Please ensure that the role exists."


class Refusing:
    """boto3's SageMaker client, which refuses each training job with one of AWS's own answers."""

    def __init__(self, code: str, message: str) -> None:
        self._error = ClientError({"Error": {"Code": code, "Message": message}}, "CreateTrainingJob")

    def create_training_job(self, **_: Any) -> dict[str, Any]:
        raise self._error

    def describe_training_job(self, **_: Any) -> dict[str, Any]:
        missing = {"Error": {"Code": "ValidationException", "Message": "Requested resource not found."}}
        raise ClientError(missing, "DescribeTrainingJob")


@pytest.fixture
def made() -> World:
    made = world()
    install(made.here)
    return made


def submitted(made: World, rows: bytes | None = None) -> JobRecord:
    if rows is None:
        name = client_of(made.here, "acme").upload(tiny_model.chat_rows(30))
    else:
        name = "s3://data/acme/rows.jsonl"
        made.objects.write(name, rows)
    return submit(made.here, "acme", JobRequest(model=tiny_model.NAME, training_file=name))


def run_queue(made: World, here: Installation) -> None:
    for message in made.queue.take():
        run_command(here, str(message["job_id"]), str(message["entry_id"]))


def refused(made: World, code: str, message: str) -> Diagnosis:
    """The diagnosis of a job whose training job SageMaker refuses so."""
    job = submitted(made)
    run_queue(made, replace(made.here, training_jobs=TrainingJobs(Refusing(code, message))))
    return explain(made.here, "acme", job.id)


def running(made: World) -> JobRecord:
    job = submitted(made)
    made.run_queue()
    made.training_jobs.observe(f"{job.id}-1", secondary_status="Training", started_at=made.clock())
    found = observe(made.here, f"{job.id}-1")
    assert found is not None
    return found


def checkpoint(made: World, job: JobRecord, step: int, weights: int | None = 100) -> None:
    """A checkpoint of 100 bytes of weights, of which `weights` have arrived."""
    folder = layout.checkpoints_uri(layout.job_uri("artifacts", "acme", job.id)) + f"checkpoint-{step}/"
    manifest = Manifest(
        job_id=job.id,
        config_sha256="",
        step=step,
        tokens_seen=1,
        created_at=made.clock(),
        files=(ManifestFile(name="weights.safetensors", bytes=100, sha256=""),),
    )
    made.objects.write(folder + MANIFEST_NAME, manifest.model_dump_json().encode())
    if weights is not None:
        made.objects.write(folder + "weights.safetensors", b"w" * weights)


def test_a_quota_is_told_with_all_that_a_request_for_more_has_to_say(made: World) -> None:
    seen = refused(made, "ResourceLimitExceeded", QUOTA)
    assert seen.cause == "quota"
    (asked,) = (words for words in seen.evidence if words.startswith("To ask for"))
    assert "service code sagemaker" in asked
    assert "region us-east-1, at least 1." in asked
    assert any(words.startswith("Log line") and QUOTA in words for words in seen.evidence)
    assert "us-east-1.console.aws.amazon.com/servicequotas/home/services/sagemaker/quotas" in seen.remedy
    assert seen.command.startswith("aws service-quotas request-service-quota-increase --region us-east-1")
    name = asked.partition("quota name ")[2].partition(",")[0]
    assert name.endswith("for spot training job usage")
    assert f"QuotaName=='{name}'" in seen.command


@pytest.mark.parametrize(("code", "words"), [("AccessDeniedException", DENIED), ("ValidationException", ASSUME)])
def test_a_missing_permission_is_told_in_awss_own_words(made: World, code: str, words: str) -> None:
    seen = refused(made, code, words)
    assert seen.cause == "missing_permission"
    assert any(words in evidence for evidence in seen.evidence)


def test_capacity_at_creation_is_waited_for(made: World) -> None:
    seen = refused(made, "CapacityError", "Unable to provision requested ML compute capacity.")
    assert seen.cause in ("well", "capacity")  # the next rung is ordered at once; on the last one it waits
    for _ in range(9):
        run_queue(made, replace(made.here, training_jobs=TrainingJobs(Refusing("CapacityError", "none"))))
    (job,) = made.store.list_jobs("acme", after=None, limit=10).items
    seen = explain(made.here, "acme", job.id)
    assert seen.cause == "capacity"
    assert any(words.startswith("Log line") for words in seen.evidence)


def test_a_request_that_sagemaker_finds_invalid_is_our_own_fault(made: World) -> None:
    assert refused(made, "ValidationException", "1 validation error detected: ...").cause == "internal"


def test_bad_rows_of_a_file_that_was_read_later_are_named_by_line(made: World) -> None:
    filler = tiny_model.chat_rows(60)
    rows = filler * (DIRECT_UPLOAD_BYTES // len(filler) + 1) + b'{"messages": []}\n'
    job = submitted(made, rows)
    assert job.state == "validating"
    made.run_queue()
    seen = explain(made.here, "acme", job.id)
    assert seen.cause == "bad_data"
    line = rows.count(b"\n")
    assert any(f"line {line}, " in words for words in seen.evidence)
    assert seen.command.startswith("spotune data check")


def test_a_base_model_that_lost_a_file_is_told_as_such(made: World) -> None:
    filler = tiny_model.chat_rows(60)
    job = submitted(made, filler * (DIRECT_UPLOAD_BYTES // len(filler) + 1))
    made.objects.delete(layout.base_model_uri("models", tiny_model.NAME) + "config.json")
    made.run_queue()
    seen = explain(made.here, "acme", job.id)
    assert seen.cause == "model_unavailable"
    assert any("config.json" in words for words in seen.evidence)


@pytest.mark.parametrize(
    ("arrived", "words"), [(40, "has 40 bytes instead of 100"), (None, "weights.safetensors is missing")]
)
def test_the_newest_checkpoint_that_does_not_verify_is_named_with_its_fault(
    made: World, arrived: int | None, words: str
) -> None:
    job = running(made)
    checkpoint(made, job, 10)
    checkpoint(made, job, 20, arrived)
    assert explain(made.here, "acme", job.id).cause == "well"  # it may still be on its way
    made.clock.now += 301
    seen = explain(made.here, "acme", job.id)
    assert seen.cause == "checkpoint_invalid"
    assert seen.evidence == (f"checkpoint-20: weights.safetensors {words.removeprefix('weights.safetensors ')}.",)


def test_an_older_checkpoint_that_does_not_verify_harms_nobody(made: World) -> None:
    job = running(made)
    checkpoint(made, job, 10, 40)
    made.clock.now += 400
    checkpoint(made, job, 20)
    assert explain(made.here, "acme", job.id).cause == "well"


def test_checkpoints_that_stop_coming_whole_are_a_stalled_sync_in_the_end(made: World) -> None:
    job = running(made)
    checkpoint(made, job, 10)
    assert job.config is not None
    made.clock.now += 100_000 + 4 * job.config.checkpoint.interval_seconds
    assert explain(made.here, "acme", job.id).cause == "sync_stalled"


def test_the_peak_is_the_containers_last_figure_where_it_told_one(made: World) -> None:
    job = running(made)
    folder = layout.checkpoints_uri(layout.job_uri("artifacts", "acme", job.id))
    progress = Progress(phase="training", step=3, peak_memory_bytes=3 * 2**30)
    made.objects.write(folder + "progress.json", progress.model_dump_json().encode())
    reason = 'AlgorithmError: {"code": "out_of_memory", "message": "It does not fit."}, exit code: 2'
    failure, code = parse_failure(reason)
    ended = {"status": "Failed", "secondary_status": "Failed", "failure_reason": reason}
    made.training_jobs.observe(f"{job.id}-1", failure=failure, exit_code=code, **ended)
    observe(made.here, f"{job.id}-1")
    seen = explain(made.here, "acme", job.id)
    assert seen.cause == "out_of_memory"
    assert "Peak: 3.0 GiB before it failed." in seen.evidence
    assert any(words.startswith("Forecast: ") for words in seen.evidence)
