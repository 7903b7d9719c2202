from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ReadTimeoutError
from botocore.stub import Stubber
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st

from spotune.aws.base import AwsRefused, NameTaken, TrainingJobRefused, TrainingJobSpec
from spotune.aws.training_jobs import TrainingJobs, create_request, observed, parse_failure
from spotune.contracts.errors import Unavailable
from spotune.contracts.training import METRIC_DEFINITIONS, Failure

NAME = "ftjob-abc-1"


def spec(**changes: Any) -> TrainingJobSpec:
    folder = "s3://artifacts/acme/jobs/ftjob-abc/"
    values: dict[str, Any] = {
        "name": NAME,
        "stage": "dev",
        "job_id": "ftjob-abc",
        "tenant": "acme",
        "attempt": 1,
        "role_arn": "arn:aws:iam::000000000000:role/training",
        "image": "000000000000.dkr.ecr.us-east-1.amazonaws.com/training:1",
        "market": "spot",
        "instance_types": ("ml.g5.xlarge",),
        "instance_count": 1,
        "volume_gb": 50,
        "max_runtime": 3600,
        "max_wait": 7200,
        "config_uri": f"{folder}config/{NAME}/",
        "training_uri": "s3://data/acme/files/file-a/a.jsonl",
        "validation_uri": None,
        "model_uri": "s3://models/base/tiny/",
        "champion_uri": None,
        "golden_uri": None,
        "checkpoints_uri": f"{folder}checkpoints/",
        "output_uri": f"{folder}output/",
        "environment": {"SPOTUNE_LOG": "info"},
    }
    return TrainingJobSpec(**{**values, **changes})


ON_DEMAND = spec(market="on_demand")
LADDER = spec(market="on_demand", instance_types=("ml.g5.xlarge", "ml.g6.xlarge"), instance_count=2)


class TestRequest:
    @pytest.mark.parametrize("one", [spec(), ON_DEMAND, LADDER, spec(validation_uri="s3://data/v.jsonl")])
    def test_sagemakers_own_model_accepts_it(self, one: TrainingJobSpec) -> None:
        model = botocore.session.get_session().get_service_model("sagemaker")
        shape = model.operation_model("CreateTrainingJob").input_shape
        report = ParamValidator().validate(create_request(one), shape)
        assert not report.has_errors(), report.generate_report()

    def test_spot_waits_as_long_as_it_may(self) -> None:
        request = create_request(spec())
        assert request["EnableManagedSpotTraining"] is True
        assert request["StoppingCondition"] == {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 7200}
        assert request["ResourceConfig"]["InstanceType"] == "ml.g5.xlarge"

    def test_on_demand_has_no_wait(self) -> None:
        request = create_request(ON_DEMAND)
        assert request["EnableManagedSpotTraining"] is False
        assert request["StoppingCondition"] == {"MaxRuntimeInSeconds": 3600}

    def test_several_types_are_preferences_in_their_order(self) -> None:
        resources = create_request(LADDER)["ResourceConfig"]
        assert [entry["InstanceType"] for entry in resources["InstancePreferences"]] == ["ml.g5.xlarge", "ml.g6.xlarge"]
        assert "InstanceType" not in resources
        assert resources["InstanceCount"] == 2

    @pytest.mark.parametrize("of", [spec(), LADDER])
    def test_traffic_between_instances_is_encrypted_as_the_launchers_role_asks(self, of: TrainingJobSpec) -> None:
        assert create_request(of)["EnableInterContainerTrafficEncryption"] is True

    def test_our_own_network_and_key_are_named_where_there_are_some_and_not_where_there_are_none(self) -> None:
        key = "arn:aws:kms:us-east-1:000000000000:key/mrk-1"
        own = create_request(spec(subnets=("subnet-1",), security_groups=("sg-1",), kms_key=key, volume_kms_key=key))
        assert own["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
        assert own["ResourceConfig"]["VolumeKmsKeyId"] == own["OutputDataConfig"]["KmsKeyId"] == key
        local = create_request(spec(kms_key=key))
        assert local["OutputDataConfig"]["KmsKeyId"] == key
        assert "VolumeKmsKeyId" not in local["ResourceConfig"]
        plain = create_request(spec())
        assert "VpcConfig" not in plain
        assert "KmsKeyId" not in str(plain)

    def test_each_channel_is_there_under_its_name(self) -> None:
        further = {"champion_uri": "s3://artifacts/acme/jobs/ftjob-old/m/", "golden_uri": "s3://data/g.jsonl"}
        channels = create_request(spec(validation_uri="s3://data/v.jsonl", **further))["InputDataConfig"]
        uris = {channel["ChannelName"]: channel["DataSource"]["S3DataSource"]["S3Uri"] for channel in channels}
        assert uris == {
            "config": f"s3://artifacts/acme/jobs/ftjob-abc/config/{NAME}/",
            "training": "s3://data/acme/files/file-a/a.jsonl",
            "validation": "s3://data/v.jsonl",
            "model": "s3://models/base/tiny/",
            "champion": "s3://artifacts/acme/jobs/ftjob-old/m/",
            "golden": "s3://data/g.jsonl",
        }
        names = {channel["ChannelName"] for channel in create_request(spec())["InputDataConfig"]}
        assert names == {"config", "training", "model"}

    def test_results_checkpoints_metrics_and_tags_are_where_they_belong(self) -> None:
        request = create_request(spec())
        folder = "s3://artifacts/acme/jobs/ftjob-abc/"
        assert request["OutputDataConfig"] == {"S3OutputPath": f"{folder}output/", "CompressionType": "NONE"}
        assert request["CheckpointConfig"] == {"S3Uri": f"{folder}checkpoints/", "LocalPath": "/opt/ml/checkpoints"}
        assert request["AlgorithmSpecification"]["MetricDefinitions"] == list(METRIC_DEFINITIONS)
        assert {tag["Key"]: tag["Value"] for tag in request["Tags"]} == {
            "spotune:stage": "dev",
            "spotune:job": "ftjob-abc",
            "spotune:tenant": "acme",
            "spotune:attempt": "1",
        }
        assert request["Environment"] == {"SPOTUNE_STAGE": "dev", "SPOTUNE_LOG": "info"}
        assert request["EnableNetworkIsolation"] is True
        assert "HyperParameters" not in request


@pytest.fixture
def sagemaker() -> Any:
    config = Config(retries={"total_max_attempts": 1})
    return boto3.client(
        "sagemaker", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x", config=config
    )


def answering(sagemaker: Any, operation: str, code: str, message: str = "m", status: int = 400) -> Stubber:
    stub = Stubber(sagemaker)
    stub.add_client_error(operation, code, message, http_status_code=status)
    return stub


class TestCreate:
    def test_a_taken_name_is_told_apart(self, sagemaker: Any) -> None:
        with answering(sagemaker, "create_training_job", "ResourceInUse"), pytest.raises(NameTaken) as taken:
            TrainingJobs(sagemaker).create(spec())
        assert taken.value.name == NAME

    @pytest.mark.parametrize(
        ("code", "message", "reason"),
        [
            ("ResourceLimitExceeded", "limit is 0 Instances, with current utilization of 0", "quota"),
            ("CapacityError", "Unable to provision", "capacity"),
            ("ValidationException", "No S3 objects found under S3 URL", "invalid"),
            ("ValidationException", "Could not assume role arn:aws:iam::1:role/x", "not_permitted"),
            ("AccessDeniedException", "not authorized to perform: iam:PassRole", "not_permitted"),
            ("ResourceNotFound", "image", "invalid"),
        ],
    )
    def test_a_refusal_has_its_reason_and_sagemakers_words(
        self, sagemaker: Any, code: str, message: str, reason: str
    ) -> None:
        with answering(sagemaker, "create_training_job", code, message), pytest.raises(TrainingJobRefused) as refused:
            TrainingJobs(sagemaker).create(spec())
        assert (refused.value.reason, refused.value.message) == (reason, message)

    def test_what_botocore_itself_refuses_is_invalid(self, sagemaker: Any) -> None:
        with pytest.raises(TrainingJobRefused) as refused:
            TrainingJobs(sagemaker).create(spec(max_runtime=0))
        assert refused.value.reason == "invalid"
        assert "MaxRuntimeInSeconds" in refused.value.message

    @pytest.mark.parametrize(("code", "status"), [("ThrottlingException", 400), ("Oops", 500), ("Oops", 429)])
    def test_a_busy_sagemaker_is_unavailable(self, sagemaker: Any, code: str, status: int) -> None:
        with answering(sagemaker, "create_training_job", code, status=status), pytest.raises(Unavailable):
            TrainingJobs(sagemaker).create(spec())

    def test_a_lost_answer_is_unavailable(self, sagemaker: Any) -> None:
        def lose(**_: Any) -> None:
            raise ReadTimeoutError(endpoint_url="http://sagemaker")

        sagemaker.meta.events.register("before-send.sagemaker.CreateTrainingJob", lose)
        with pytest.raises(Unavailable):
            TrainingJobs(sagemaker).create(spec())

    def test_expired_credentials_are_no_refusal_of_the_job(self, sagemaker: Any) -> None:
        with answering(sagemaker, "create_training_job", "ExpiredTokenException"), pytest.raises(AwsRefused):
            TrainingJobs(sagemaker).create(spec())


MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def description(**changes: Any) -> dict[str, Any]:
    values = {
        "TrainingJobName": NAME,
        "TrainingJobArn": f"arn:aws:sagemaker:us-east-1:000000000000:training-job/{NAME}",
        "ModelArtifacts": {"S3ModelArtifacts": "s3://artifacts/x"},
        "TrainingJobStatus": "InProgress",
        "SecondaryStatus": "Starting",
        "AlgorithmSpecification": {"TrainingInputMode": "File"},
        "ResourceConfig": {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 50},
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        "CreationTime": MOMENT,
    }
    return {**values, **changes}


def transition(status: str) -> dict[str, Any]:
    return {"Status": status, "StartTime": MOMENT, "StatusMessage": ""}


class TestDescribe:
    def test_a_job_that_just_began(self, sagemaker: Any) -> None:
        with Stubber(sagemaker) as stub:
            stub.add_response("describe_training_job", description(), {"TrainingJobName": NAME})
            seen = TrainingJobs(sagemaker).describe(NAME)
        assert seen is not None
        assert (seen.name, seen.status, seen.secondary_status) == (NAME, "InProgress", "Starting")
        assert (seen.started_at, seen.billable_seconds, seen.interruptions) == (None, 0, 0)
        assert seen.instance_type == "ml.g5.xlarge"

    def test_a_job_that_was_interrupted_twice_restarted_and_ended(self) -> None:
        statuses = [
            "Starting",
            "Training",
            "Interrupted",
            "Starting",
            "Training",
            "Interrupted",
            "Training",
            "Restarting",
        ]
        seen = observed(
            description(
                TrainingJobStatus="Completed",
                SecondaryStatus="Completed",
                SecondaryStatusTransitions=[transition(status) for status in statuses],
                TrainingStartTime=MOMENT,
                TrainingEndTime=MOMENT,
                TrainingTimeInSeconds=500,
                BillableTimeInSeconds=150,
            )
        )
        assert (seen.interruptions, seen.restarts) == (2, 1)
        assert (seen.training_seconds, seen.billable_seconds) == (500, 150)
        assert seen.started_at == seen.ended_at == MOMENT.timestamp()

    def test_the_type_that_sagemaker_chose_is_told(self) -> None:
        chosen = {"InstancePreferences": [{"InstanceType": "ml.g5.xlarge"}], "SelectedInstanceType": "ml.g6.xlarge"}
        assert observed(description(ResourceConfig=chosen)).instance_type == "ml.g6.xlarge"
        waiting = {"InstancePreferences": [{"InstanceType": "ml.g5.xlarge"}]}
        assert observed(description(ResourceConfig=waiting)).instance_type is None

    @pytest.mark.parametrize("code", ["ValidationException", "ResourceNotFound"])
    def test_a_job_that_is_not_there_is_none(self, sagemaker: Any, code: str) -> None:
        with answering(sagemaker, "describe_training_job", code, "Requested resource not found."):
            assert TrainingJobs(sagemaker).describe(NAME) is None

    def test_a_busy_sagemaker_is_not_a_missing_job(self, sagemaker: Any) -> None:
        with answering(sagemaker, "describe_training_job", "ThrottlingException"), pytest.raises(Unavailable):
            TrainingJobs(sagemaker).describe(NAME)

    def test_a_refusal_is_not_a_missing_job(self, sagemaker: Any) -> None:
        with answering(sagemaker, "describe_training_job", "AccessDeniedException"), pytest.raises(AwsRefused):
            TrainingJobs(sagemaker).describe(NAME)


class TestStop:
    @pytest.mark.parametrize("code", ["ValidationException", "ResourceNotFound"])
    def test_what_has_ended_or_never_was_needs_no_stop(self, sagemaker: Any, code: str) -> None:
        with answering(sagemaker, "stop_training_job", code) as asked:
            TrainingJobs(sagemaker).stop(NAME)
            asked.assert_no_pending_responses()

    def test_a_stop_that_was_not_heard_is_unavailable(self, sagemaker: Any) -> None:
        with answering(sagemaker, "stop_training_job", "ThrottlingException"), pytest.raises(Unavailable):
            TrainingJobs(sagemaker).stop(NAME)


FAILURE = Failure(
    code="out_of_memory",
    message='CUDA out of memory, "tried" {2 GiB}',
    evidence="step 3\npeak 23 GiB, exit code: 9",
    remedy="Use a smaller batch.",
)


def reason_of(words: str, exit_code: int = 2) -> str:
    return f"AlgorithmError: {words}, exit code: {exit_code}"


class TestFailure:
    def test_the_containers_words_and_exit_code_come_back(self) -> None:
        seen = observed(description(FailureReason=reason_of(FAILURE.model_dump_json()), TrainingJobStatus="Failed"))
        assert (seen.failure, seen.exit_code) == (FAILURE, 2)
        assert seen.failure_reason.startswith("AlgorithmError")

    @given(st.integers(min_value=0, max_value=400))
    def test_words_that_were_cut_keep_what_can_be_read(self, length: int) -> None:
        failure, exit_code = parse_failure(reason_of(FAILURE.model_dump_json()[:length]))
        assert exit_code == 2
        if failure is not None:
            assert FAILURE.message.startswith(failure.message)
            assert FAILURE.code.startswith(failure.code)

    def test_words_cut_within_the_evidence_keep_code_and_message(self) -> None:
        words = FAILURE.model_dump_json()
        failure, _ = parse_failure(reason_of(words[: words.index("peak")]))
        assert failure is not None
        assert (failure.code, failure.message, failure.evidence) == (FAILURE.code, FAILURE.message, "step 3\n")

    def test_words_of_a_newer_container_are_still_read(self) -> None:
        newer = json.dumps({**FAILURE.model_dump(), "since": "tomorrow"})
        assert parse_failure(reason_of(newer)) == (FAILURE, 2)

    @pytest.mark.parametrize(
        ("reason", "exit_code"),
        [
            ("", None),
            ("CapacityError: Unable to provision requested ML compute capacity.", None),
            ("ClientError: {no json}", None),
            ("AlgorithmError: , exit code: 1", 1),
            ("AlgorithmError: framework error: \nTraceback {x, exit code: 137", 137),
            ('AlgorithmError: {"message": 3}, exit code: 1', 1),
        ],
    )
    def test_other_words_are_no_failure_of_ours(self, reason: str, exit_code: int | None) -> None:
        assert parse_failure(reason) == (None, exit_code)

    @given(st.text())
    def test_no_reason_breaks_the_reading(self, reason: str) -> None:
        for failure, exit_code in (parse_failure(reason), parse_failure(f"AlgorithmError: {reason}")):
            assert failure is None or failure.code
            assert exit_code is None or exit_code >= 0


def test_jobs_that_are_being_stopped_are_live_and_one_that_is_stopped_meanwhile_is_named_once() -> None:
    sagemaker = boto3.client("sagemaker", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    with Stubber(sagemaker) as stub:
        for status, names, token in (
            ("InProgress", ("ftjob-a-1", "my-ftjob-1"), "more"),
            ("InProgress", ("ftjob-b-1",), None),
            ("Stopping", ("ftjob-b-1", "ftjob-c-1"), None),
        ):
            asked = {"NameContains": "ftjob-", "StatusEquals": status, "MaxResults": 100}
            moment = datetime(2026, 1, 1, tzinfo=UTC)
            summaries = [
                {
                    "TrainingJobName": name,
                    "TrainingJobArn": f"arn:aws:sagemaker:us-east-1:000000000000:training-job/{name}",
                    "CreationTime": moment,
                    "TrainingJobStatus": status,
                }
                for name in names
            ]
            answer = {"TrainingJobSummaries": summaries} | ({"NextToken": token} if token else {})
            after = {"NextToken": "more"} if names == ("ftjob-b-1",) else {}
            stub.add_response("list_training_jobs", answer, asked | after)
        assert [*TrainingJobs(sagemaker).live()] == ["ftjob-a-1", "ftjob-b-1", "ftjob-c-1"]
        stub.assert_no_pending_responses()
