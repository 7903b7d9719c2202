"""The edge to SageMaker's model registry, against moto and against the double: one contract for both."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import EndpointConnectionError
from moto import mock_aws

from spotune.aws.base import AwsRefused
from spotune.aws.model_registry import (
    APPROVAL,
    LONGEST_NAME,
    SageMakerRegistry,
    create_request,
    group_name,
    group_request,
    metadata,
    update_request,
)
from spotune.contracts.errors import Unavailable
from spotune.contracts.models import ModelVersion, StatusChange
from spotune.local.double.scripted_runner import Script, ScriptedDouble
from spotune.local.double.validation import validated
from tests.aws.test_against_double import Wire
from tests.factories import NOW, lineage, model_version

GROUP = group_name("test", "acme", "support")


def sagemaker() -> Any:
    return boto3.client(
        "sagemaker",
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
        config=Config(retries={"total_max_attempts": 1}),
    )


@pytest.fixture(params=["moto", "double"])
def client(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "moto":
        with mock_aws():
            yield sagemaker()
    else:
        yield against_the_double()


def against_the_double() -> Any:
    made = sagemaker()
    made.meta.events.register("before-send.sagemaker", Wire(ScriptedDouble(lambda request: Script())))
    return made


def shown(client: Any, arn: str) -> dict[str, Any]:
    return dict(client.describe_model_package(ModelPackageName=arn))


def packages(client: Any) -> list[dict[str, Any]]:
    return list(client.list_model_packages(ModelPackageGroupName=GROUP, MaxResults=100)["ModelPackageSummaryList"])


def test_a_version_is_a_package_of_its_group_with_status_metrics_and_lineage(client: Any) -> None:
    version = model_version(1, status="champion", lineage=lineage("ftjob-1", parent="ft:tiny::0"))
    arn = SageMakerRegistry("test", client).mirror(version)
    package = shown(client, arn)
    assert (package["ModelPackageGroupName"], package["ModelPackageVersion"]) == (GROUP, 1)
    assert package["ModelApprovalStatus"] == "Approved"
    assert package["ModelMetrics"]["ModelQuality"]["Statistics"]["S3Uri"] == f"{version.uri}report.json"
    told = package["CustomerMetadataProperties"]
    assert (told["model"], told["job"], told["parent"], told["cost"]) == (
        version.name,
        "ftjob-1",
        "ft:tiny::0",
        "0.1800",
    )
    group = client.describe_model_package_group(ModelPackageGroupName=GROUP)
    assert "support of tenant acme" in group["ModelPackageGroupDescription"]


def test_a_change_of_status_is_a_change_of_the_same_package(client: Any) -> None:
    registry = SageMakerRegistry("test", client)
    version = model_version(1, status="champion")
    arn = registry.mirror(version)
    change = StatusChange(sequence=2, status="former", at=NOW, by="key-1", why="v2 took its place.\nSo it is.")
    former = version.with_(status="former", package_arn=arn, history=(*version.history, change))
    assert registry.mirror(former) == arn
    package = shown(client, arn)
    assert (package["ModelApprovalStatus"], package["ApprovalDescription"]) == (
        "PendingManualApproval",
        "v2 took its place. So it is.",
    )
    assert package["CustomerMetadataProperties"]["status"] == "former"
    assert len(packages(client)) == 1


def test_a_package_whose_answer_was_lost_is_found_again(client: Any) -> None:
    registry = SageMakerRegistry("test", client)
    arns = [registry.mirror(model_version(number)) for number in (1, 2, 11)]
    assert [registry.mirror(model_version(number)) for number in (1, 2, 11)] == arns
    assert len(packages(client)) == 3


def test_groups_and_tenants_are_groups_of_their_own(client: Any) -> None:
    registry = SageMakerRegistry("test", client)
    for group, tenant in (("support", "acme"), ("support", "globex"), ("sales", "acme")):
        registry.mirror(model_version(1, group=group, tenant=tenant))
    names = {one["ModelPackageGroupName"] for one in client.list_model_package_groups()["ModelPackageGroupSummaryList"]}
    assert len(names) == 3
    assert GROUP in names


def test_a_package_that_somebody_deleted_is_made_again() -> None:
    client = against_the_double()
    registry = SageMakerRegistry("test", client)
    arn = registry.mirror(model_version(1))
    client.delete_model_package(ModelPackageName=arn)
    again = registry.mirror(model_version(1, package_arn=arn))
    assert again != arn
    assert [one["ModelPackageArn"] for one in packages(client)] == [again]


def test_a_removed_version_is_shown_no_more_and_a_second_time_does_nothing() -> None:
    client = against_the_double()
    registry = SageMakerRegistry("test", client)
    registry.remove(model_version(1))
    arn = registry.mirror(model_version(1))
    registry.mirror(model_version(2))
    registry.remove(model_version(1, package_arn=arn))
    registry.remove(model_version(1, package_arn=arn))
    registry.remove(model_version(2))
    assert packages(client) == []


def test_more_packages_than_a_page_holds_are_all_looked_through() -> None:
    client = against_the_double()
    registry = SageMakerRegistry("test", client)
    first = registry.mirror(model_version(1))
    for number in range(2, 105):
        client.create_model_package(**create_request(GROUP, model_version(number)))
    assert registry.mirror(model_version(1)) == first
    registry.remove(model_version(1))
    with pytest.raises(client.exceptions.ClientError):
        client.describe_model_package(ModelPackageName=first)


class Refusing:
    """A client one of whose calls fails."""

    def __init__(self, client: Any, operation: str, error: Exception) -> None:
        self._client, self._operation, self._error = client, operation, error

    def __getattr__(self, name: str) -> Any:
        if name == self._operation:
            return self._fail
        return getattr(self._client, name)

    def _fail(self, **_: Any) -> Any:
        raise self._error


def test_what_sagemaker_refuses_is_told_and_what_it_does_not_answer_too() -> None:
    client = against_the_double()
    away = Refusing(client, "list_model_packages", EndpointConnectionError(endpoint_url="http://sagemaker"))
    with pytest.raises(Unavailable):
        SageMakerRegistry("test", away).mirror(model_version(1))
    arn = SageMakerRegistry("test", client).mirror(model_version(1))
    too_much = model_version(1, package_arn=arn)
    denied = client.exceptions.ClientError(
        {"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "UpdateModelPackage"
    )
    with pytest.raises(AwsRefused, match="AccessDenied"):
        SageMakerRegistry("test", Refusing(client, "update_model_package", denied)).mirror(too_much)
    invalid = client.exceptions.ClientError(
        {"Error": {"Code": "ValidationException", "Message": "x"}}, "UpdateModelPackage"
    )
    with pytest.raises(AwsRefused, match="ValidationException"):
        SageMakerRegistry("test", Refusing(client, "update_model_package", invalid)).mirror(too_much)
    assert len(packages(client)) == 1, "a refused change makes no second package"


@pytest.mark.parametrize(
    ("stage", "tenant", "group"),
    [
        ("prod", "acme", "support"),
        ("p" * 20, "t" * 40, "g" * 64),
        ("prod", "acme", "Support_2.1--x"),
        ("prod", "acme", "s" * 63 + "."),
        ("a--b-", "acme", "x"),
    ],
)
def test_every_name_of_ours_becomes_one_of_sagemakers(stage: str, tenant: str, group: str) -> None:
    name = group_name(stage, tenant, group)
    assert len(name) <= LONGEST_NAME
    assert name.startswith(f"spotune-{stage}-"), "the roles may touch what begins so"
    assert name == name.lower()
    validated("CreateModelPackageGroup", group_request(name, stage, model_version(1, tenant=tenant, group=group)))


def test_names_that_read_the_same_are_told_apart() -> None:
    alike = [("a", "b-c"), ("a-b", "c"), ("a", "b_c"), ("a", "B-C"), ("a", "b.c")]
    assert len({group_name("prod", tenant, group) for tenant, group in alike}) == len(alike)


def test_the_champion_alone_is_approved() -> None:
    assert [status for status, approval in APPROVAL.items() if approval == "Approved"] == ["champion"]


@pytest.mark.parametrize(
    "strange",
    ["", "a\nb\tc", "x" * 3000, "na\u00efve \u4f60\u597d", "<script>", "100 % & more", "'quoted' \"twice\""],
)
def test_whatever_a_lineage_holds_is_what_sagemaker_takes(strange: str) -> None:
    version = model_version(
        1,
        lineage=lineage(base=strange, base_revision=strange, code=strange, parent=strange or None, image=strange),
        history=(StatusChange(sequence=1, status="passed", at=NOW, by="gate", why=strange),),
    )
    validated("CreateModelPackage", create_request(GROUP, version))
    validated(
        "UpdateModelPackage", update_request("arn:aws:sagemaker:us-east-1:123456789012:model-package/x/1", version)
    )
    assert all(0 < len(value) <= 256 for value in metadata(version).values())


def test_the_same_version_is_asked_for_under_the_same_token() -> None:
    token: Callable[[ModelVersion], str] = lambda version: create_request(GROUP, version)["ClientToken"]  # noqa: E731
    assert token(model_version(1)) == token(model_version(1, status="champion"))
    assert token(model_version(1)) != token(model_version(2))
    assert re.fullmatch(r"[a-zA-Z0-9-]{1,36}", token(model_version(1)))
