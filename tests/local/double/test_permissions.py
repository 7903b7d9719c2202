"""What AWS would check of a request that comes to the double."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spotune.aws.training_jobs import create_request
from spotune.local.double.permissions import checks_of, service_of
from tests.aws.test_training_jobs import LADDER, spec
from tests.infra.test_template import CAPS, statements

ARN = "arn:aws:sagemaker:eu-west-1:123456789012:"
VPC = {"sagemaker:VpcSecurityGroupIds", "sagemaker:VpcSubnets"}


def tags_of(arn: str) -> dict[str, str]:
    return {"spotune:stage": "prod"} if arn == f"{ARN}training-job/ftjob-theirs-1" else {}


def checks(operation: str, request: dict[str, Any], service: str = "SageMaker") -> list[tuple[str, str]]:
    found = checks_of(f"{service}.{operation}", json.dumps(request).encode(), "eu-west-1", "123456789012", tags_of)
    return [(one.action, one.resource) for one in found]


def context(request: dict[str, Any]) -> dict[str, Any]:
    first, *_ = checks_of(
        "SageMaker.CreateTrainingJob", json.dumps(request).encode(), "eu-west-1", "123456789012", tags_of
    )
    return first.context


def test_a_training_job_is_asked_for_with_its_tags_and_its_role() -> None:
    request = create_request(spec())
    assert checks("CreateTrainingJob", request) == [
        ("sagemaker:CreateTrainingJob", f"{ARN}training-job/{request['TrainingJobName']}"),
        ("sagemaker:AddTags", f"{ARN}training-job/{request['TrainingJobName']}"),
        ("iam:PassRole", request["RoleArn"]),
    ]
    passed = checks_of(
        "SageMaker.CreateTrainingJob", json.dumps(request).encode(), "eu-west-1", "123456789012", tags_of
    )[-1]
    assert passed.context == {"iam:PassedToService": "sagemaker.amazonaws.com"}


def test_the_context_has_what_the_request_says_and_lacks_what_it_does_not() -> None:
    plain = context(create_request(spec()))
    assert plain["sagemaker:InstanceTypes"] == ["ml.g5.xlarge"]
    assert plain["sagemaker:MaxRuntimeInSeconds"] == 3600
    assert plain["sagemaker:NetworkIsolation"] == plain["sagemaker:InterContainerTrafficEncryption"] == "true"
    assert not VPC & set(plain)
    assert context(create_request(LADDER))["sagemaker:InstanceTypes"] == ["ml.g5.xlarge", "ml.g6.xlarge"]


def test_every_condition_key_of_the_launchers_policy_can_be_in_the_context() -> None:
    """One that the double never gave would make a cap that no test could see broken."""
    key = "arn:aws:kms:eu-west-1:123456789012:key/1"
    request = create_request(spec(subnets=("subnet-1",), security_groups=("sg-1",), kms_key=key, volume_kms_key=key))
    request["ResourceConfig"]["KeepAlivePeriodInSeconds"] = 60
    request["RemoteDebugConfig"] = {"EnableRemoteDebug": True}
    asked = {name for name in CAPS | VPC if name.startswith("sagemaker:")}
    assert asked <= set(context(request))
    assert any("CreateTrainingJob" in str(one["Action"]) for one in statements("LaunchRole"))


@pytest.mark.parametrize(
    ("operation", "request_", "resource"),
    [
        ("DescribeTrainingJob", {"TrainingJobName": "ftjob-a-1"}, "training-job/ftjob-a-1"),
        ("StopTrainingJob", {"TrainingJobName": "ftjob-a-1"}, "training-job/ftjob-a-1"),
        ("AddTags", {"ResourceArn": f"{ARN}training-job/x", "Tags": []}, "training-job/x"),
        ("ListTags", {"ResourceArn": f"{ARN}training-job/x"}, "training-job/x"),
        ("DescribeModelPackageGroup", {"ModelPackageGroupName": "g"}, "model-package-group/g"),
        ("DescribeModelPackage", {"ModelPackageName": f"{ARN}model-package/g/1"}, "model-package/g/1"),
        ("UpdateModelPackage", {"ModelPackageArn": f"{ARN}model-package/g/1"}, "model-package/g/1"),
    ],
)
def test_an_operation_is_checked_on_what_it_names(operation: str, request_: dict[str, Any], resource: str) -> None:
    assert checks(operation, request_) == [(f"sagemaker:{operation}", f"{ARN}{resource}")]


def asked(operation: str, request: dict[str, Any]) -> list[dict[str, Any]]:
    found = checks_of(f"SageMaker.{operation}", json.dumps(request).encode(), "eu-west-1", "123456789012", tags_of)
    return [one.context for one in found]


def test_the_context_has_the_tags_of_what_is_there_and_of_the_request() -> None:
    theirs, gone = "ftjob-theirs-1", "ftjob-gone-1"
    assert asked("StopTrainingJob", {"TrainingJobName": theirs}) == [{"aws:ResourceTag/spotune:stage": "prod"}]
    assert asked("StopTrainingJob", {"TrainingJobName": gone}) == [{}]
    given = {"aws:TagKeys": ["a"], "aws:RequestTag/a": "b"}
    tagged = {"ResourceArn": f"{ARN}training-job/{theirs}", "Tags": [{"Key": "a", "Value": "b"}]}
    assert asked("AddTags", tagged) == [given | {"aws:ResourceTag/spotune:stage": "prod"}]


def test_what_is_made_with_tags_says_so_and_what_is_tagged_later_does_not() -> None:
    request = create_request(spec(stage="local"))
    made, tagged, _ = asked("CreateTrainingJob", request)
    assert made["aws:RequestTag/spotune:stage"] == tagged["aws:RequestTag/spotune:stage"] == "local"
    assert tagged["sagemaker:TaggingAction"] == "CreateTrainingJob"
    group = {"ModelPackageGroupName": "g", "Tags": request["Tags"]}
    assert asked("CreateModelPackageGroup", group)[1]["sagemaker:TaggingAction"] == "CreateModelPackageGroup"
    (later,) = asked("AddTags", {"ResourceArn": f"{ARN}training-job/x", "Tags": request["Tags"]})
    assert "sagemaker:TaggingAction" not in later | made


def test_listings_and_the_neighbours_know_no_resource() -> None:
    assert checks("ListTrainingJobs", {}) == [("sagemaker:ListTrainingJobs", "*")]
    assert checks("ListModelPackages", {"ModelPackageGroupName": "g"}) == [("sagemaker:ListModelPackages", "*")]
    assert checks("GetProducts", {}, "AWSPriceListService") == [("pricing:GetProducts", "*")]
    quotas = checks("ListServiceQuotas", {}, "ServiceQuotasV20190624")
    assert quotas == [("servicequotas:ListServiceQuotas", "*")]
    (spot,) = checks_of("", b"Action=DescribeSpotPriceHistory&Version=1", "eu-west-1", "123456789012", tags_of)
    assert (spot.action, spot.resource, service_of("")) == ("ec2:DescribeSpotPriceHistory", "*", "ec2")


def test_a_group_is_asked_for_with_its_tags_and_a_package_with_its_group() -> None:
    group = {"ModelPackageGroupName": "g", "Tags": [{"Key": "a", "Value": "b"}]}
    assert [action for action, _ in checks("CreateModelPackageGroup", group)] == [
        "sagemaker:CreateModelPackageGroup",
        "sagemaker:AddTags",
    ]
    assert [
        resource.removeprefix(ARN) for _, resource in checks("CreateModelPackage", {"ModelPackageGroupName": "g"})
    ] == [
        "model-package-group/g",
        "model-package/g/*",
    ]


def test_a_body_that_cannot_be_read_is_checked_all_the_same() -> None:
    (check, role) = checks_of("SageMaker.CreateTrainingJob", b"[", "eu-west-1", "123456789012", tags_of)
    assert (check.resource, role.resource) == (f"{ARN}training-job/", "")
