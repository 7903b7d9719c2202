"""Training jobs at SageMaker: the request that starts one, and what its description says.

Requests and descriptions are pure functions of their input, so that every field can be tested without a cloud.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import ParamValidationError
from pydantic import ValidationError
from pydantic_core import from_json

from spotune.aws.base import (
    AwsRefused,
    NameTaken,
    RefusalReason,
    TrainingJobRefused,
    TrainingJobSpec,
)
from spotune.aws.clients import call, client
from spotune.contracts.events import TrainingObserved
from spotune.contracts.training import METRIC_DEFINITIONS, Failure

CHECKPOINT_PATH = "/opt/ml/checkpoints"

NAME_PREFIX = "ftjob-"
"""Of our jobs, and so of their training jobs."""

STAGE_VARIABLE = "SPOTUNE_STAGE"
"""Of a training job's environment: which installation of the account started it. Descriptions have no tags."""

STAGE_TAG = "spotune:stage"
"""The same for IAM, which lets no other installation's roles stop it."""

INTERNAL_ERROR_RETRIES = 2
"""SageMaker starts the job anew after an InternalServerError of its own. MaxRuntime bounds all tries together."""

_REFUSALS: Mapping[str, RefusalReason] = {
    "ResourceLimitExceeded": "quota",
    "CapacityError": "capacity",
    "ValidationException": "invalid",
    "ResourceNotFound": "invalid",
    "AccessDenied": "not_permitted",
    "AccessDeniedException": "not_permitted",
}

_NOT_THERE = frozenset({"ResourceNotFound", "ValidationException"})
"""SageMaker answers "Requested resource not found." as a ValidationException."""

_EXIT_CODE = re.compile(r",?\s*exit code: (\d+)\s*$", re.IGNORECASE)


class TrainingJobs:
    """Fulfils `TrainingJobService`.

    Args:
        sagemaker: boto3's SageMaker client; the shared one where none is given.
        region: another one than the environment's.
    """

    def __init__(self, sagemaker: Any = None, region: str | None = None) -> None:
        self._given = sagemaker
        self._region = region

    def create(self, spec: TrainingJobSpec) -> None:
        """See `TrainingJobService`."""
        try:
            call(self._sagemaker.create_training_job, **create_request(spec))
        except ParamValidationError as error:
            raise TrainingJobRefused("invalid", str(error)) from error
        except AwsRefused as error:
            if error.code == "ResourceInUse":
                raise NameTaken(spec.name) from error
            if error.code in _REFUSALS:
                raise TrainingJobRefused(_refusal(error), error.message) from error
            raise

    def describe(self, name: str) -> TrainingObserved | None:
        """See `TrainingJobService`."""
        try:
            return observed(call(self._sagemaker.describe_training_job, TrainingJobName=name))
        except AwsRefused as error:
            if error.code in _NOT_THERE:
                return None
            raise

    def in_progress(self) -> Iterator[str]:
        """See `TrainingJobService`."""
        return self._listed("InProgress")

    def live(self) -> Iterator[str]:
        """Names of those that have not ended yet, those that are being stopped among them."""
        seen = set()
        for status in ("InProgress", "Stopping"):  # in this order: one that is stopped meanwhile is listed twice
            for name in self._listed(status):
                if name not in seen:
                    seen.add(name)
                    yield name

    def stage_of(self, name: str) -> str | None:
        """See `TrainingJobService`."""
        try:
            description = call(self._sagemaker.describe_training_job, TrainingJobName=name)
        except AwsRefused as error:
            if error.code in _NOT_THERE:
                return None
            raise
        stage: str | None = description.get("Environment", {}).get(STAGE_VARIABLE)
        return stage

    def stop(self, name: str) -> None:
        """See `TrainingJobService`."""
        try:
            call(self._sagemaker.stop_training_job, TrainingJobName=name)
        except AwsRefused as error:
            if error.code not in _NOT_THERE:
                raise

    def _listed(self, status: str) -> Iterator[str]:
        token: dict[str, str] = {}
        while True:
            answer = call(
                self._sagemaker.list_training_jobs,
                NameContains=NAME_PREFIX,
                StatusEquals=status,
                MaxResults=100,
                **token,
            )
            names = (one["TrainingJobName"] for one in answer["TrainingJobSummaries"])
            yield from (name for name in names if name.startswith(NAME_PREFIX))
            if not answer.get("NextToken"):
                return
            token = {"NextToken": answer["NextToken"]}

    @property
    def _sagemaker(self) -> Any:
        return self._given or (client("sagemaker", self._region) if self._region else client("sagemaker"))


def create_request(spec: TrainingJobSpec) -> dict[str, Any]:
    """The arguments of CreateTrainingJob.

    No hyperparameters: the console shows them, and the `config` channel carries everything. Warm pools are left out,
    since spot excludes them.
    """
    spot = spec.market == "spot"
    vpc = {"Subnets": [*spec.subnets], "SecurityGroupIds": [*spec.security_groups]}
    output_key = {"KmsKeyId": spec.kms_key} if spec.kms_key else {}
    stopping = {"MaxRuntimeInSeconds": spec.max_runtime}
    return {
        "TrainingJobName": spec.name,
        "RoleArn": spec.role_arn,
        "AlgorithmSpecification": {
            "TrainingImage": spec.image,
            "TrainingInputMode": "File",
            "MetricDefinitions": [dict(metric) for metric in METRIC_DEFINITIONS],
        },
        "InputDataConfig": _channels(spec),
        "OutputDataConfig": {"S3OutputPath": spec.output_uri, "CompressionType": "NONE", **output_key},
        "CheckpointConfig": {"S3Uri": spec.checkpoints_uri, "LocalPath": CHECKPOINT_PATH},
        "ResourceConfig": _resources(spec),
        "EnableManagedSpotTraining": spot,
        "StoppingCondition": stopping | ({"MaxWaitTimeInSeconds": spec.max_wait} if spot else {}),
        "RetryStrategy": {"MaximumRetryAttempts": INTERNAL_ERROR_RETRIES},
        "EnableNetworkIsolation": spec.network_isolation,
        # With one instance it changes nothing; the launch function's role asks for it, which cannot count instances.
        "EnableInterContainerTrafficEncryption": True,
        **({"VpcConfig": vpc} if spec.subnets else {}),
        "Environment": {**spec.environment, STAGE_VARIABLE: spec.stage},
        "Tags": [
            {"Key": STAGE_TAG, "Value": spec.stage},
            {"Key": "spotune:job", "Value": spec.job_id},
            {"Key": "spotune:tenant", "Value": spec.tenant},
            {"Key": "spotune:attempt", "Value": str(spec.attempt)},
        ],
    }


def observed(description: Mapping[str, Any]) -> TrainingObserved:
    """What a description (the answer of DescribeTrainingJob) says; `report` and `output_uri` are left to the service.

    `billable_seconds` are SageMaker's: per instance, and on spot already less the discount.
    """
    reason = description.get("FailureReason", "")
    failure, exit_code = parse_failure(reason)
    resources = description.get("ResourceConfig", {})
    passed = [transition["Status"] for transition in description.get("SecondaryStatusTransitions", [])]
    return TrainingObserved(
        name=description["TrainingJobName"],
        status=description["TrainingJobStatus"],
        secondary_status=description["SecondaryStatus"],
        instance_type=resources.get("SelectedInstanceType") or resources.get("InstanceType"),
        started_at=_timestamp(description.get("TrainingStartTime")),
        ended_at=_timestamp(description.get("TrainingEndTime")),
        interruptions=passed.count("Interrupted"),
        restarts=passed.count("Restarting"),
        training_seconds=description.get("TrainingTimeInSeconds", 0),
        billable_seconds=description.get("BillableTimeInSeconds", 0),
        failure_reason=reason,
        failure=failure,
        exit_code=exit_code,
    )


def parse_failure(reason: str) -> tuple[Failure | None, int | None]:
    """The container's own words and its exit code, out of `AlgorithmError: <output/failure>, exit code: <n>`.

    SageMaker cuts the words at 1,024 characters, so the JSON may end anywhere; whatever of it can be read is kept.
    """
    exit_code = _EXIT_CODE.search(reason)
    code = int(exit_code.group(1)) if exit_code else None
    start = reason.find("{")
    if not reason.startswith("AlgorithmError") or start < 0:
        return None, code
    words = reason[start : exit_code.start() if exit_code else None]
    try:
        fields = from_json(words, allow_partial="trailing-strings")
        known = {name: fields[name] for name in Failure.model_fields if name in fields}
        return Failure.model_validate({"message": "", **known}), code
    except (ValueError, ValidationError):
        return None, code


def _channels(spec: TrainingJobSpec) -> list[dict[str, Any]]:
    channels = {
        "config": spec.config_uri,
        "training": spec.training_uri,
        "model": spec.model_uri,
        "validation": spec.validation_uri,
        "champion": spec.champion_uri,
        "golden": spec.golden_uri,
    }
    return [
        {
            "ChannelName": name,
            "InputMode": "File",
            "DataSource": {
                # SageMaker has no type for one object: beside `a.jsonl` this also takes `a.jsonl.bak`.
                "S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
            },
        }
        for name, uri in channels.items()
        if uri is not None
    ]


def _resources(spec: TrainingJobSpec) -> dict[str, Any]:
    """One type by name; several, on demand only, as SageMaker's list of preferences."""
    sized: dict[str, Any] = {"InstanceCount": spec.instance_count, "VolumeSizeInGB": spec.volume_gb}
    if spec.volume_kms_key:
        sized["VolumeKmsKeyId"] = spec.volume_kms_key
    if len(spec.instance_types) == 1:
        return {"InstanceType": spec.instance_types[0], **sized}
    return {"InstancePreferences": [{"InstanceType": name} for name in spec.instance_types], **sized}


def _refusal(error: AwsRefused) -> RefusalReason:
    if error.code == "ValidationException" and "assume role" in error.message.lower():
        return "not_permitted"
    return _REFUSALS[error.code]


def _timestamp(moment: Any) -> float | None:
    return None if moment is None else float(moment.timestamp())
