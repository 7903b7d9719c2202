"""What AWS would check of a request that comes to the double: which action on which resource, with which context.

By AWS's Service Authorization Reference. A listing and the reads of Pricing, Service Quotas and EC2 know no resource.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from spotune.local.double.job import Request

SAGEMAKER = "sagemaker.amazonaws.com"

TagsOf = Callable[[str], Mapping[str, str]]
"""The tags of a resource, by its ARN; none of what is not there."""

_SERVICES = {"": "ec2", "AWSPriceListService": "pricing", "ServiceQuotasV20190624": "servicequotas"}
_EVERYTHING = "*"


@dataclass(frozen=True)
class Check:
    """One thing that a policy has to allow. `context` holds condition keys; one that is not there is absent."""

    action: str
    resource: str
    context: dict[str, Any] = field(default_factory=dict)


def service_of(target: str) -> str:
    """The prefix of a request's actions, by its X-Amz-Target."""
    return _SERVICES.get(target.partition(".")[0], "sagemaker")


def checks_of(target: str, body: bytes, region: str, account: str, tags_of: TagsOf) -> list[Check]:
    """All that has to be allowed for a request.

    Args:
        target: its X-Amz-Target, empty for EC2's query protocol.
        body: as it came; one that cannot be read is refused by whoever carries it out.
        region: that it is signed for.
        account: the caller's.
        tags_of: what is tagged how.
    """
    service = service_of(target)
    if service == "ec2":
        action = parse_qs(body.decode(errors="replace")).get("Action", [""])[0]
        return [Check(f"ec2:{action}", _EVERYTHING)]
    name = target.partition(".")[2]
    request = _read(body)
    if service != "sagemaker":
        return [Check(f"{service}:{name}", _EVERYTHING)]
    arn = f"arn:aws:sagemaker:{region}:{account}:"
    if name == "CreateTrainingJob":
        return _of_training_job(arn, request)
    resources = _resources(arn, name, request)
    checks = [Check(f"sagemaker:{name}", one, _of_tags(request) | _of_resource(tags_of(one))) for one in resources]
    if name.startswith("Create") and request.get("Tags"):
        checks.append(_tagging(name, resources[0], request))
    return checks


def _of_training_job(arn: str, request: Request) -> list[Check]:
    job = f"{arn}training-job/{request.get('TrainingJobName', '')}"
    role = str(request.get("RoleArn", ""))
    context = _of_request(request) | _of_tags(request)
    return [
        Check("sagemaker:CreateTrainingJob", job, context),
        *([_tagging("CreateTrainingJob", job, request)] if request.get("Tags") else []),
        Check("iam:PassRole", role, {"iam:PassedToService": SAGEMAKER}),
    ]


def _tagging(name: str, resource: str, request: Request) -> Check:
    """Of what is made with tags. A call of AddTags by itself has no TaggingAction."""
    return Check("sagemaker:AddTags", resource, {"sagemaker:TaggingAction": name} | _of_tags(request))


def _of_request(request: Request) -> dict[str, Any]:
    """SageMaker's own condition keys; those of switches are there where the request names them."""
    resources, vpc = request.get("ResourceConfig", {}), request.get("VpcConfig", {})
    types = [one["InstanceType"] for one in resources.get("InstancePreferences", [])]
    known = {
        "sagemaker:InstanceTypes": types or [resources[key] for key in ("InstanceType",) if key in resources],
        "sagemaker:InterContainerTrafficEncryption": request.get("EnableInterContainerTrafficEncryption"),
        "sagemaker:NetworkIsolation": request.get("EnableNetworkIsolation"),
        "sagemaker:MaxRuntimeInSeconds": request.get("StoppingCondition", {}).get("MaxRuntimeInSeconds"),
        "sagemaker:KeepAlivePeriod": resources.get("KeepAlivePeriodInSeconds"),
        "sagemaker:EnableRemoteDebug": request.get("RemoteDebugConfig", {}).get("EnableRemoteDebug"),
        "sagemaker:OutputKmsKey": request.get("OutputDataConfig", {}).get("KmsKeyId"),
        "sagemaker:VolumeKmsKey": resources.get("VolumeKmsKeyId"),
        "sagemaker:VpcSubnets": vpc.get("Subnets"),
        "sagemaker:VpcSecurityGroupIds": vpc.get("SecurityGroupIds"),
    }
    return {key: _spelling(value) for key, value in known.items() if value not in (None, [], "")}


def _of_tags(request: Request) -> dict[str, Any]:
    tags = {tag["Key"]: tag["Value"] for tag in request.get("Tags", [])}
    keys = {"aws:TagKeys": list(tags)} if tags else {}
    return keys | {f"aws:RequestTag/{key}": value for key, value in tags.items()}


def _of_resource(tags: Mapping[str, str]) -> dict[str, Any]:
    return {f"aws:ResourceTag/{key}": value for key, value in tags.items()}


def _resources(arn: str, name: str, request: Request) -> list[str]:
    if name.startswith("List") and name != "ListTags":
        return [_EVERYTHING]
    if "ResourceArn" in request:
        return [str(request["ResourceArn"])]
    group = str(request.get("ModelPackageGroupName", "")).rpartition("/")[2]
    if name == "CreateModelPackage":
        # A package is made in its group, and both are asked for.
        return [f"{arn}model-package-group/{group}", f"{arn}model-package/{group}/*"]
    if "ModelPackageGroup" in name:
        return [f"{arn}model-package-group/{group}"]
    if "ModelPackage" in name:
        package = str(request.get("ModelPackageName") or request.get("ModelPackageArn") or "")
        return [package if package.startswith("arn:") else f"{arn}model-package/{package}"]
    return [f"{arn}training-job/{request.get('TrainingJobName', '')}"]


def _spelling(value: object) -> object:
    """As IAM compares it."""
    return str(value).lower() if isinstance(value, bool) else value


def _read(body: bytes) -> Request:
    try:
        document = json.loads(body or b"{}")
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
