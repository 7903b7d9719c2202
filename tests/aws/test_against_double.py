"""The edge and the SageMaker double understand each other: through boto3's own serializers, without a socket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config

from spotune.aws.base import NameTaken, TrainingJobRefused
from spotune.aws.training_jobs import TrainingJobs
from spotune.contracts.training import Failure
from spotune.local.double.judge import Signed
from spotune.local.double.market import Market
from spotune.local.double.protocol import answer
from spotune.local.double.quotas import Quotas
from spotune.local.double.regions import Region, Regions
from spotune.local.double.scripted_runner import Script, ScriptedDouble
from tests.aws.test_training_jobs import LADDER, NAME, ON_DEMAND, spec

OUT_OF_MEMORY = Failure(code="out_of_memory", message="no room", evidence="step 3", remedy="a smaller batch")


class Wire:
    """Answers a client's requests from the double."""

    def __init__(self, double: ScriptedDouble) -> None:
        region = Region("us-east-1", double, Market(region="us-east-1", quotas=double.quotas))
        self._regions = Regions("us-east-1", lambda name: region, Path("none"))

    def __call__(self, request: Any, **_: Any) -> AWSResponse:
        header = request.headers["X-Amz-Target"]
        target = header.decode() if isinstance(header, bytes) else header
        told = answer(self._regions, None, Signed("POST", "/", [("X-Amz-Target", target)], request.body))
        return AWSResponse(request.url, told.status, {"Content-Type": told.content_type}, Raw(told.body))


class Raw:
    """A body that has arrived."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self) -> Any:
        yield self._body


def joined(script: Script, **options: Any) -> tuple[ScriptedDouble, TrainingJobs]:
    double = ScriptedDouble(lambda request: script, **options)
    sagemaker = boto3.client(
        "sagemaker",
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
        config=Config(retries={"total_max_attempts": 1}),
    )
    sagemaker.meta.events.register("before-send.sagemaker", Wire(double))
    return double, TrainingJobs(sagemaker)


@pytest.mark.parametrize("one", [spec(), ON_DEMAND, LADDER, spec(validation_uri="s3://data/v.jsonl")])
def test_the_double_takes_every_form_of_request_and_runs_it(one: Any) -> None:
    double, jobs = joined(Script(duration=600))
    jobs.create(one)
    double.advance(3600)
    seen = jobs.describe(NAME)
    assert seen is not None
    assert (seen.status, seen.secondary_status, seen.instance_type) == ("Completed", "Completed", "ml.g5.xlarge")
    assert seen.started_at is not None
    assert seen.ended_at is not None
    assert seen.ended_at > seen.started_at
    assert seen.billable_seconds > 0


def test_interruptions_are_counted() -> None:
    double, jobs = joined(Script(duration=600, interruptions=(200.0, 400.0)))
    jobs.create(spec())
    double.advance(7000)
    seen = jobs.describe(NAME)
    assert seen is not None
    assert (seen.status, seen.interruptions) == ("Completed", 2)


def test_the_containers_failure_comes_through_whole() -> None:
    double, jobs = joined(Script(exit_code=2, failure=OUT_OF_MEMORY.model_dump_json()))
    jobs.create(spec())
    double.advance(3600)
    seen = jobs.describe(NAME)
    assert seen is not None
    assert (seen.status, seen.exit_code, seen.failure) == ("Failed", 2, OUT_OF_MEMORY)


def test_a_name_is_taken_while_it_runs_and_after() -> None:
    double, jobs = joined(Script())
    jobs.create(spec())
    with pytest.raises(NameTaken):
        jobs.create(spec())
    double.advance(7000)
    with pytest.raises(NameTaken):
        jobs.create(spec())


def test_a_quota_of_nothing_is_a_refusal_for_quota() -> None:
    _, jobs = joined(Script(), quotas=Quotas(default=0))
    with pytest.raises(TrainingJobRefused) as refused:
        jobs.create(spec())
    assert refused.value.reason == "quota"
    assert "0 Instances" in refused.value.message
    assert jobs.describe(NAME) is None


def test_a_request_against_the_rules_is_invalid() -> None:
    _, jobs = joined(Script())
    with pytest.raises(TrainingJobRefused) as refused:
        jobs.create(spec(max_wait=10))
    assert refused.value.reason == "invalid"


def test_a_stop_reaches_a_running_job_and_leaves_an_ended_one_alone() -> None:
    double, jobs = joined(Script(duration=6000))
    jobs.stop(NAME)
    jobs.create(spec())
    double.advance(600)
    jobs.stop(NAME)
    double.advance(600)
    seen = jobs.describe(NAME)
    assert seen is not None
    assert seen.status == "Stopped"
    jobs.stop(NAME)
