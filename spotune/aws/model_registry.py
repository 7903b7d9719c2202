"""SageMaker's model registry: a group of ours is a model package group, a version is a model package.

Requests are pure functions of a version. A package names the files by `SourceUri` and no inference container: which
image serves them is for whoever deploys to say (UpdateModelPackage takes an InferenceSpecification later). Approved is
the champion alone, so that a pipeline that deploys what is approved deploys it, after a rollback too.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from spotune.aws.base import AwsRefused
from spotune.aws.clients import call, client
from spotune.contracts.base import dollars
from spotune.contracts.models import ModelVersion, VersionStatus

LONGEST_NAME = 63
"""SageMaker's, for a group."""
LONGEST_VALUE = 256
"""SageMaker's, for a value of the customer metadata."""
LONGEST_DESCRIPTION = 1024

APPROVAL: Mapping[VersionStatus, str] = {
    "champion": "Approved",
    "awaiting_approval": "PendingManualApproval",
    "passed": "PendingManualApproval",
    "former": "PendingManualApproval",
    "rejected": "Rejected",
    "deprecated": "Rejected",
    "deleted": "Rejected",
}

_NOT_THERE = frozenset({"ResourceNotFound", "ValidationException"})
"""SageMaker answers that something does not exist as a ValidationException."""
_NO_NAME = re.compile(r"[^a-z0-9]+")
_NO_VALUE = re.compile(r"[^\w\s.:/=+\-@]+")


class SageMakerRegistry:
    """Fulfils `ModelRegistry`.

    Args:
        stage: the installation's; its groups are named by it.
        sagemaker: boto3's SageMaker client; the shared one where none is given.
    """

    def __init__(self, stage: str, sagemaker: Any = None) -> None:
        self._stage = stage
        self._given = sagemaker

    def mirror(self, version: ModelVersion) -> str:
        """See `ModelRegistry`."""
        group = group_name(self._stage, version.tenant, version.group)
        arn = version.package_arn or self._find(group, version)
        if arn is not None and self._update(arn, version):
            return arn
        self._make_group(group, version)
        made: str = call(self._sagemaker.create_model_package, **create_request(group, version))["ModelPackageArn"]
        return made

    def remove(self, version: ModelVersion) -> None:
        """See `ModelRegistry`."""
        group = group_name(self._stage, version.tenant, version.group)
        arn = version.package_arn or self._find(group, version)
        if arn is None:
            return
        try:
            call(self._sagemaker.delete_model_package, ModelPackageName=arn)
        except AwsRefused as error:
            if error.code not in _NOT_THERE:
                raise

    def _find(self, group: str, version: ModelVersion) -> str | None:
        """The package of an earlier request whose answer was lost, or that nobody lived to write down."""
        return next((arn for arn, description in self._packages(group) if described_as(description, version)), None)

    def _packages(self, group: str) -> Iterator[tuple[str, str]]:
        token: dict[str, str] = {}
        while True:
            try:
                answer = call(self._sagemaker.list_model_packages, ModelPackageGroupName=group, MaxResults=100, **token)
            except AwsRefused as error:
                if error.code in _NOT_THERE:
                    return
                raise
            for one in answer["ModelPackageSummaryList"]:
                yield one["ModelPackageArn"], one.get("ModelPackageDescription", "")
            if not answer.get("NextToken"):
                return
            token = {"NextToken": answer["NextToken"]}

    def _update(self, arn: str, version: ModelVersion) -> bool:
        """False where there is no such package any more."""
        try:
            call(self._sagemaker.update_model_package, **update_request(arn, version))
        except AwsRefused as error:
            if error.code not in _NOT_THERE or self._exists(arn):
                raise
            return False
        return True

    def _exists(self, arn: str) -> bool:
        try:
            call(self._sagemaker.describe_model_package, ModelPackageName=arn)
        except AwsRefused as error:
            if error.code in _NOT_THERE:
                return False
            raise
        return True

    def _make_group(self, group: str, version: ModelVersion) -> None:
        try:
            call(self._sagemaker.describe_model_package_group, ModelPackageGroupName=group)
        except AwsRefused as error:
            if error.code not in _NOT_THERE:
                raise
            call(self._sagemaker.create_model_package_group, **group_request(group, self._stage, version))

    @property
    def _sagemaker(self) -> Any:
        return self._given or client("sagemaker")


def group_name(stage: str, tenant: str, group: str) -> str:
    """SageMaker's name of a group: 63 letters, digits and single hyphens. A hash keeps apart what reads the same."""
    digest = hashlib.sha256("\0".join((stage, tenant, group)).encode()).hexdigest()[:10]
    words = f"spotune-{stage}-" + _NO_NAME.sub("-", f"{tenant}-{group}".lower())
    return f"{words[: LONGEST_NAME - len(digest) - 1].strip('-')}-{digest}"


def group_request(group: str, stage: str, version: ModelVersion) -> dict[str, Any]:
    """The arguments of CreateModelPackageGroup."""
    tags = {"spotune:stage": stage, "spotune:tenant": version.tenant, "spotune:group": version.group}
    return {
        "ModelPackageGroupName": group,
        "ModelPackageGroupDescription": f"Models of Spotune's group {version.group} of tenant {version.tenant}.",
        "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
    }


def create_request(group: str, version: ModelVersion) -> dict[str, Any]:
    """The arguments of CreateModelPackage. A package of a group takes no tags: the group's are its own."""
    return {
        "ModelPackageGroupName": group,
        "ModelPackageDescription": _description(version),
        "SourceUri": version.uri,
        "ModelApprovalStatus": APPROVAL[version.status],
        "MetadataProperties": {"GeneratedBy": version.lineage.job_id, "CommitId": version.lineage.code[:1024]},
        "ModelMetrics": {
            "ModelQuality": {
                "Statistics": {"ContentType": "application/json", "S3Uri": f"{version.uri}report.json"},
            }
        },
        "CustomerMetadataProperties": metadata(version),
        "ClientToken": _token(group, version),
    }


def _token(group: str, version: ModelVersion) -> str:
    """The same however often a package is asked for; another one where the package of before was deleted."""
    return hashlib.sha256("\0".join((group, version.name, version.package_arn or "")).encode()).hexdigest()[:36]


def update_request(arn: str, version: ModelVersion) -> dict[str, Any]:
    """The arguments of UpdateModelPackage."""
    why = version.history[-1].why if version.history else ""
    return {
        "ModelPackageArn": arn,
        "ModelApprovalStatus": APPROVAL[version.status],
        "ApprovalDescription": " ".join(why.split())[:LONGEST_DESCRIPTION],
        "CustomerMetadataProperties": metadata(version),
    }


def metadata(version: ModelVersion) -> dict[str, str]:
    """Lineage and status, as SageMaker takes them: pairs of short plain texts, none empty."""
    made = version.lineage
    facts = {
        "model": version.name,
        "version": str(version.number),
        "status": version.status,
        "verdict": version.verdict.decision,
        "compared_with": version.verdict.champion or "",
        "eval_loss": f"{version.scores.eval_loss:.6g}",
        "job": made.job_id,
        "base": made.base,
        "base_revision": made.base_revision,
        "parent": made.parent or "",
        "data_sha256": made.data_sha256,
        "evaluation_sha256": made.evaluation_sha256,
        "manifest": made.manifest_uri or "",
        "config_sha256": made.config_sha256,
        "code": made.code,
        "image": made.image,
        "seed": str(made.seed),
        "method": made.method,
        "cost": dollars(made.cost).removeprefix("$"),
    }
    plain = {key: _NO_VALUE.sub("_", value)[:LONGEST_VALUE] for key, value in facts.items()}
    return {key: value for key, value in plain.items() if value}


def described_as(description: str, version: ModelVersion) -> bool:
    """True for the description of this version's package."""
    return description == _description(version)


def _description(version: ModelVersion) -> str:
    return f"{version.name} version {version.number}"[:LONGEST_DESCRIPTION]
