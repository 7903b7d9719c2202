"""What SageMaker refuses beyond the shape of the request. One rule, one function; each says what to change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spotune.contracts.layout import split_uri
from spotune.contracts.money import LONGEST_RUNTIME
from spotune.local.double.faults import invalid
from spotune.local.double.job import Request
from spotune.planner.catalog import load_catalog
from spotune.planner.disk import has_local_storage

ENVIRONMENT_BYTES = 16 * 1024


def check_rules(request: Request) -> None:
    """Apply every rule.

    Raises:
        ServiceError: ValidationException of the first rule that is broken.
    """
    for rule in _RULES:
        rule(request)


def _check_algorithm(request: Request) -> None:
    algorithm = request.get("AlgorithmSpecification")
    if algorithm is None:
        raise invalid("AlgorithmSpecification is required: serverless jobs are not available here.")
    if ("TrainingImage" in algorithm) == ("AlgorithmName" in algorithm):
        raise invalid("You must specify exactly one of TrainingImage or AlgorithmName in AlgorithmSpecification.")
    if "AlgorithmName" in algorithm:
        raise invalid("AlgorithmName is not available here: give a TrainingImage.")


def _check_resources(request: Request) -> None:
    resources = request.get("ResourceConfig")
    if resources is None:
        raise invalid("ResourceConfig is required.")
    ways = [name for name in ("InstanceType", "InstanceGroups", "InstancePreferences") if name in resources]
    if len(ways) != 1:
        raise invalid(
            "You must specify exactly one of InstanceType, InstanceGroups or InstancePreferences in ResourceConfig, "
            f"not {', '.join(ways) or 'none'}."
        )
    if ways == ["InstanceGroups"] or "TrainingPlanArn" in resources:
        raise invalid("InstanceGroups and training plans are not available here: give an InstanceType.")
    if ways == ["InstanceType"] and resources.get("InstanceCount", 0) < 1:
        raise invalid("InstanceCount must be at least 1.")
    if resources.get("VolumeSizeInGB", 0) < 1:
        raise invalid("VolumeSizeInGB must be at least 1.")


def _check_preferences(request: Request) -> None:
    preferences = [entry["InstanceType"] for entry in request["ResourceConfig"].get("InstancePreferences", [])]
    if len(set(preferences)) != len(preferences):
        raise invalid("InstancePreferences must not name an instance type twice.")


def _check_volume_key(request: Request) -> None:
    resources = request["ResourceConfig"]
    if "VolumeKmsKeyId" not in resources:
        return
    local = [name for name in _named_types(resources) if has_local_storage(name)]
    if local:
        raise invalid(
            f"VolumeKmsKeyId is not supported for {', '.join(local)}: local instance storage is encrypted by hardware."
        )


def _check_volume_size(request: Request) -> None:
    """As SageMaker's API reference has it of ProcessingClusterConfig and HyperParameterTuningResourceConfig."""
    resources = request["ResourceConfig"]
    specs = [load_catalog().instances.get(name) for name in _named_types(resources)]
    small = [spec for spec in specs if spec is not None and 0 < spec.nvme_gb < resources["VolumeSizeInGB"]]
    if small:
        sizes = ", ".join(f"{spec.instance_type} ({spec.nvme_gb} GB)" for spec in small)
        raise invalid(
            f"VolumeSizeInGB {resources['VolumeSizeInGB']} is greater than the total size of the local instance "
            f"storage of {sizes}."
        )


def _named_types(resources: dict[str, Any]) -> list[str]:
    preferences = resources.get("InstancePreferences", [{"InstanceType": resources.get("InstanceType", "")}])
    return [entry["InstanceType"] for entry in preferences]


def _check_stopping_condition(request: Request) -> None:
    condition = request.get("StoppingCondition")
    if condition is None:
        raise invalid("StoppingCondition is required.")
    runtime = condition.get("MaxRuntimeInSeconds", 24 * 3600)
    if runtime > LONGEST_RUNTIME:
        raise invalid(f"MaxRuntimeInSeconds must be at most {LONGEST_RUNTIME} (28 days), not {runtime}.")
    wait = condition.get("MaxWaitTimeInSeconds")
    if request.get("EnableManagedSpotTraining"):
        if wait is None:
            raise invalid("Invalid MaxWaitTimeInSeconds. It is required when EnableManagedSpotTraining is true.")
        if wait < runtime:
            raise invalid(
                f"Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to MaxRuntimeInSeconds "
                f"({runtime}), not {wait}."
            )
    elif wait is not None:
        raise invalid("MaxWaitTimeInSeconds is only allowed when EnableManagedSpotTraining is true.")


def _check_spot_exclusions(request: Request) -> None:
    if not request.get("EnableManagedSpotTraining"):
        return
    resources = request["ResourceConfig"]
    for name in ("InstancePreferences", "KeepAlivePeriodInSeconds"):
        if resources.get(name):
            raise invalid(f"{name} is not supported with managed spot training.")
    if "MaxPendingTimeInSeconds" in request["StoppingCondition"]:
        raise invalid("MaxPendingTimeInSeconds is not supported with managed spot training.")


def _check_channels(request: Request) -> None:
    names = [channel["ChannelName"] for channel in request.get("InputDataConfig", [])]
    if len(set(names)) != len(names):
        raise invalid("Channel names must be unique within InputDataConfig.")
    for channel in request.get("InputDataConfig", []):
        source = channel["DataSource"].get("S3DataSource")
        if source is None or source["S3DataType"] != "S3Prefix":
            raise invalid(
                f"Channel {channel['ChannelName']}: only S3DataSource of S3DataType S3Prefix is available here."
            )
        mode = channel.get("InputMode", request["AlgorithmSpecification"]["TrainingInputMode"])
        if mode == "Pipe" or channel.get("CompressionType", "None") != "None":
            raise invalid(
                f"Channel {channel['ChannelName']}: only uncompressed File and FastFile input is available here."
            )


def _check_uris(request: Request) -> None:
    uris = [channel["DataSource"]["S3DataSource"]["S3Uri"] for channel in request.get("InputDataConfig", [])]
    uris.append(request["OutputDataConfig"]["S3OutputPath"])
    uris += [request["CheckpointConfig"]["S3Uri"]] if "CheckpointConfig" in request else []
    for uri in uris:
        try:
            split_uri(uri)
        except ValueError as error:
            raise invalid(f"The URI {uri!r} must start with s3:// and name a bucket.") from error


def _check_checkpoint_path(request: Request) -> None:
    local = request.get("CheckpointConfig", {}).get("LocalPath", "/opt/ml/checkpoints")
    if not local.startswith("/opt/ml/") or ".." in local.split("/"):
        raise invalid(f"CheckpointConfig.LocalPath must lie below /opt/ml here, not at {local!r}.")


def _check_environment(request: Request) -> None:
    size = sum(len(key) + len(value) for key, value in request.get("Environment", {}).items())
    if size > ENVIRONMENT_BYTES:
        raise invalid(f"Environment must be at most {ENVIRONMENT_BYTES} bytes in all, not {size}.")


def _check_tags(request: Request) -> None:
    check_tags(request.get("Tags", []))


def check_tags(tags: list[dict[str, str]]) -> None:
    """Keys are unique and not AWS's own.

    Raises:
        ServiceError: ValidationException.
    """
    keys = [tag["Key"] for tag in tags]
    if len(set(keys)) != len(keys):
        raise invalid("Duplicate tag keys found. Please note that Tag keys are case sensitive.")
    if any(key.lower().startswith("aws:") for key in keys):
        raise invalid("Tag keys must not start with the reserved prefix aws:.")


_RULES: tuple[Callable[[Request], None], ...] = (
    _check_algorithm,
    _check_resources,
    _check_preferences,
    _check_volume_key,
    _check_volume_size,
    _check_stopping_condition,
    _check_spot_exclusions,
    _check_channels,
    _check_uris,
    _check_checkpoint_path,
    _check_environment,
    _check_tags,
)
