"""Requests against botocore's model of the service, and the rules beyond it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from botocore.model import ListShape, MapShape, Shape, StructureShape
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st

from spotune.local.double.faults import ServiceError
from spotune.local.double.rules import check_rules
from spotune.local.double.validation import operation, validated
from tests.local.double.conftest import channel, on_demand, training_job

INPUT = operation("CreateTrainingJob").input_shape
FULL = training_job(
    "full-1",
    InputDataConfig=[channel("training", "s3://b/k", S3DataDistributionType="FullyReplicated")],
    HyperParameters={"a": "1"},
    Environment={"A": "b"},
    Tags=[{"Key": "spotune:job", "Value": "ünïcode ok"}],
    RetryStrategy={"MaximumRetryAttempts": 2},
    AlgorithmSpecification={
        "TrainingImage": "i",
        "TrainingInputMode": "File",
        "MetricDefinitions": [{"Name": "loss", "Regex": "loss=(.*)"}],
    },
)


def leaves(shape: Shape, value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Shape]]:
    """Every value of the request with the shape that rules it."""
    yield path, shape
    if isinstance(shape, StructureShape):
        for name, member in value.items():
            yield from leaves(shape.members[name], member, (*path, name))
    elif isinstance(shape, ListShape):
        for number, member in enumerate(value):
            yield from leaves(shape.member, member, (*path, number))
    elif isinstance(shape, MapShape):
        for key, member in value.items():
            yield from leaves(shape.value, member, (*path, key))


def replaced(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    request: Any = copy.deepcopy(FULL)
    place = request
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return dict(request)


LEAVES = [entry for entry in leaves(INPUT, FULL) if entry[0]]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def test_a_full_request_passes() -> None:
    validated("CreateTrainingJob", FULL)
    check_rules(FULL)


@given(st.sampled_from(LEAVES), JSON)
def test_what_botocore_refuses_before_sending_the_double_refuses_too(
    leaf: tuple[tuple[Any, ...], Shape], value: Any
) -> None:
    request = replaced(leaf[0], value)
    if value is not None and ParamValidator().validate(request, INPUT).has_errors():
        with pytest.raises(ServiceError) as refused:
            validated("CreateTrainingJob", request)
        assert refused.value.code in ("ValidationException", "SerializationException")


@given(st.sampled_from(LEAVES), JSON)
def test_any_value_anywhere_is_accepted_or_refused_and_never_breaks_the_double(
    leaf: tuple[tuple[Any, ...], Shape], value: Any
) -> None:
    request = replaced(leaf[0], value)
    with suppress(ServiceError):
        check_rules(validated("CreateTrainingJob", request))


@pytest.mark.parametrize(
    ("path", "shape"), [entry for entry in LEAVES if "max" in entry[1].metadata and entry[1].type_name == "string"]
)
def test_a_string_over_its_length_is_refused_by_its_path(path: tuple[Any, ...], shape: Shape) -> None:
    with pytest.raises(ServiceError, match=f"less than or equal to {shape.metadata['max']}"):
        validated("CreateTrainingJob", replaced(path, "a" * (shape.metadata["max"] + 1)))


@pytest.mark.parametrize("name", INPUT.required_members)
def test_a_missing_member_is_named(name: str) -> None:
    request = {key: value for key, value in FULL.items() if key != name}
    with pytest.raises(ServiceError, match=f"'{name[0].lower()}{name[1:]}' failed to satisfy.*must not be null"):
        validated("CreateTrainingJob", request)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("TrainingJobName",), "under_score", "regular expression pattern"),
        (("RoleArn",), "arn:aws:iam::12:role/short", "regular expression pattern"),
        (("ResourceConfig", "InstanceType"), "ml.g99.xlarge", "enum value set"),
        (("RetryStrategy", "MaximumRetryAttempts"), 31, "less than or equal to 30"),
        (("HyperParameters",), {"k": "v" * 2501}, "length less than or equal to 2500"),
        (("HyperParameters",), {str(number): "" for number in range(101)}, "length less than or equal to 100"),
        (("Tags",), [{"Key": str(number), "Value": ""} for number in range(51)], "length less than or equal to 50"),
        (("ResourceConfig", "Colour"), "red", "resourceConfig.colour"),
    ],
)
def test_bounds_are_refused_in_the_services_words(path: tuple[str, ...], value: Any, words: str) -> None:
    with pytest.raises(ServiceError, match=words) as refused:
        validated("CreateTrainingJob", replaced(path, value))
    assert "failed to satisfy constraint" in str(refused.value)


def resources(**changes: Any) -> dict[str, Any]:
    merged = {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1, **changes}
    return {"ResourceConfig": {key: value for key, value in merged.items() if value is not None}}


def limits(**seconds: int) -> dict[str, Any]:
    return {"StoppingCondition": {f"{name}InSeconds": value for name, value in seconds.items()}}


PREFERENCES = [{"InstanceType": "ml.g5.xlarge"}, {"InstanceType": "ml.g6.xlarge"}]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (limits(MaxRuntime=100), "MaxWaitTimeInSeconds. It is required"),
        (limits(MaxRuntime=100, MaxWaitTime=99), "greater than or equal to MaxRuntimeInSeconds"),
        (limits(MaxRuntime=28 * 86400 + 1, MaxWaitTime=29 * 86400), "28 days"),
        (limits(MaxRuntime=1, MaxWaitTime=1, MaxPendingTime=1800), "MaxPendingTimeInSeconds is not supported with"),
        (resources(InstanceType=None, InstancePreferences=PREFERENCES), "InstancePreferences is not supported with"),
        (resources(KeepAlivePeriodInSeconds=60), "KeepAlivePeriodInSeconds is not supported with managed spot"),
        (resources(InstancePreferences=PREFERENCES), "exactly one of InstanceType"),
        (resources(InstanceType="ml.g5.xlarge", VolumeKmsKeyId="k"), "not supported for ml.g5.xlarge: local instance"),
        (resources(InstanceType=None), "exactly one of InstanceType"),
        (resources(InstanceCount=0), "InstanceCount must be at least 1"),
        ({"ResourceConfig": None}, "ResourceConfig is required"),
        ({"StoppingCondition": None}, "StoppingCondition is required"),
        ({"AlgorithmSpecification": {"TrainingInputMode": "File"}}, "exactly one of TrainingImage"),
        ({"InputDataConfig": [channel("a", "s3://b/k"), channel("a", "s3://b/k")]}, "must be unique"),
        ({"InputDataConfig": [channel("a", "https://b/k")]}, "must start with s3://"),
        ({"CheckpointConfig": {"S3Uri": "s3://b/k", "LocalPath": "/opt/ml/../etc"}}, "must lie below /opt/ml"),
        ({"Environment": {f"A{number}": "x" * 512 for number in range(40)}}, "at most 16384 bytes"),
        ({"Tags": [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]}, "Duplicate tag keys"),
        ({"Tags": [{"Key": "aws:x", "Value": "1"}]}, "reserved prefix"),
    ],
)
def test_each_rule_refuses_its_own_breach(changes: dict[str, Any], words: str) -> None:
    request = training_job("rule-1", **changes)
    validated("CreateTrainingJob", request)
    with pytest.raises(ServiceError, match=words):
        check_rules(request)


def test_max_wait_without_spot_is_refused_and_preferences_without_spot_are_not() -> None:
    with pytest.raises(ServiceError, match="only allowed when EnableManagedSpotTraining"):
        check_rules(on_demand("rule-2", **limits(MaxRuntime=1, MaxWaitTime=2)))
    check_rules(on_demand("rule-3", **resources(InstanceType=None, InstancePreferences=PREFERENCES)))


def test_a_volume_takes_a_key_and_a_list_with_local_storage_in_it_takes_none() -> None:
    volumes = [{"InstanceType": name} for name in ("ml.p3.2xlarge", "ml.p3.8xlarge")]
    keyed = {"InstanceType": None, "VolumeKmsKeyId": "k"}
    check_rules(on_demand("rule-4", **resources(InstancePreferences=volumes, **keyed)))
    mixed = [*volumes, {"InstanceType": "ml.p4d.24xlarge"}]
    with pytest.raises(ServiceError, match=r"not supported for ml\.p4d\.24xlarge: local instance storage"):
        check_rules(on_demand("rule-5", **resources(InstancePreferences=mixed, **keyed)))


@pytest.mark.parametrize("named", [{}, {"InstanceType": None, "InstancePreferences": PREFERENCES}])
def test_more_than_the_local_storage_has_is_not_asked_for(named: dict[str, Any]) -> None:
    """The smallest of those that are named decides; ml.g5.xlarge and ml.g6.xlarge have 250 GB."""
    check_rules(on_demand("rule-6", **resources(VolumeSizeInGB=250, **named)))
    with pytest.raises(ServiceError, match=r"local instance storage of ml\.g5\.xlarge \(250 GB\)"):
        check_rules(on_demand("rule-7", **resources(VolumeSizeInGB=251, **named)))


def test_a_volume_is_as_large_as_asked_for() -> None:
    check_rules(on_demand("rule-8", **resources(InstanceType="ml.p3.2xlarge", VolumeSizeInGB=900)))
