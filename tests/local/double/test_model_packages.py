"""The double's model registry: SageMaker's rules, and what outlives a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from spotune.local.double.faults import ServiceError
from spotune.local.double.model_packages import ModelPackages

S3 = "s3://bucket/model/"


class Clock:
    """Another second at each look."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        self.at += 1
        return self.at


@pytest.fixture
def models(tmp_path: Path) -> ModelPackages:
    made = ModelPackages(tmp_path, now=Clock())
    made.create_model_package_group({"ModelPackageGroupName": "g", "ModelPackageGroupDescription": "ours"})
    return made


def package(models: ModelPackages, group: str = "g", **more: Any) -> str:
    request = {"ModelPackageGroupName": group, "SourceUri": S3, **more}
    return str(models.create_model_package(request)["ModelPackageArn"])


def refused(code: str = "ValidationException") -> Any:
    return pytest.raises(ServiceError, check=lambda error: error.code == code)


def test_versions_are_numbered_and_a_number_is_never_used_again(models: ModelPackages) -> None:
    first, second = package(models), package(models)
    assert (first[-4:], second[-4:]) == ("/g/1", "/g/2")
    models.delete_model_package({"ModelPackageName": second})
    assert package(models)[-4:] == "/g/3"


def test_a_group_and_a_package_are_described(models: ModelPackages) -> None:
    group = models.describe_model_package_group({"ModelPackageGroupName": "g"})
    assert (group["ModelPackageGroupStatus"], group["ModelPackageGroupDescription"]) == ("Completed", "ours")
    arn = package(models, CustomerMetadataProperties={"a": "1"})
    told = models.describe_model_package({"ModelPackageName": arn})
    assert (told["ModelApprovalStatus"], told["ModelPackageVersion"], told["SourceUri"]) == (
        "PendingManualApproval",
        1,
        S3,
    )
    assert told["CustomerMetadataProperties"] == {"a": "1"}
    by_arn = models.describe_model_package_group({"ModelPackageGroupName": group["ModelPackageGroupArn"]})
    assert by_arn == group


def test_the_same_token_makes_one_package_and_no_other(models: ModelPackages) -> None:
    assert package(models, ClientToken="t1") == package(models, ClientToken="t1")
    with refused("ConflictException"):
        package(models, ClientToken="t1", ModelApprovalStatus="Approved")
    assert package(models, ClientToken="t2")[-4:] == "/g/2"


def test_an_update_changes_what_it_names(models: ModelPackages) -> None:
    arn = package(models, CustomerMetadataProperties={"a": "1", "b": "2"})
    models.update_model_package(
        {
            "ModelPackageArn": arn,
            "ModelApprovalStatus": "Approved",
            "ApprovalDescription": "read it",
            "CustomerMetadataProperties": {"a": "9"},
            "CustomerMetadataPropertiesToRemove": ["b"],
        }
    )
    told = models.describe_model_package({"ModelPackageName": arn})
    assert (told["ModelApprovalStatus"], told["ApprovalDescription"]) == ("Approved", "read it")
    assert told["CustomerMetadataProperties"] == {"a": "9"}
    assert told["LastModifiedTime"] > told["CreationTime"]
    with refused():
        models.update_model_package(
            {"ModelPackageArn": arn, "CustomerMetadataProperties": {str(number): "x" for number in range(50)}}
        )


@pytest.mark.parametrize(
    "request_",
    [
        {"ModelPackageGroupName": "g", "ModelPackageName": "p"},
        {"ModelPackageName": "p"},
        {},
        {"ModelPackageGroupName": "none"},
        {"ModelPackageGroupName": "g", "Tags": [{"Key": "a", "Value": "b"}]},
        {"ModelPackageGroupName": "g", "SourceUri": S3, "InferenceSpecification": {"Containers": [{"Image": "i"}]}},
        {"ModelPackageGroupName": "g", "ModelApprovalStatus": "Maybe"},
        {"ModelPackageGroupName": "g", "CustomerMetadataProperties": {"a": "x" * 257}},
        {"ModelPackageGroupName": "g", "CustomerMetadataProperties": {"a": "100 %"}},
        {"ModelPackageGroupName": "g", "Nonsense": 1},
    ],
)
def test_what_sagemaker_refuses_is_refused(models: ModelPackages, request_: dict[str, Any]) -> None:
    with refused():
        models.create_model_package(request_)
    assert models.list_model_packages({"ModelPackageGroupName": "g"})["ModelPackageSummaryList"] == []


@pytest.mark.parametrize("name", ["-g", "g-", "g_1", "g.1", "x" * 64, ""])
def test_a_groups_name_is_letters_digits_and_single_hyphens(models: ModelPackages, name: str) -> None:
    with refused():
        models.create_model_package_group({"ModelPackageGroupName": name})


def test_a_group_is_made_once_and_deleted_only_when_empty(models: ModelPackages) -> None:
    with refused():
        models.create_model_package_group({"ModelPackageGroupName": "g"})
    arn = package(models)
    with refused("ConflictException"):
        models.delete_model_package_group({"ModelPackageGroupName": "g"})
    models.delete_model_package({"ModelPackageName": arn})
    models.delete_model_package_group({"ModelPackageGroupName": "g"})
    with refused():
        models.describe_model_package_group({"ModelPackageGroupName": "g"})


@pytest.mark.parametrize("arn", ["arn:aws:sagemaker:us-east-1:000000000000:model-package/g/7", "g/1", "none/1", "g"])
def test_a_package_that_is_not_there_is_said_to_be(models: ModelPackages, arn: str) -> None:
    for operation in (models.describe_model_package, models.delete_model_package):
        with refused():
            operation({"ModelPackageName": arn})


def test_lists_are_filtered_ordered_and_paged(models: ModelPackages) -> None:
    arns = [package(models, ModelApprovalStatus="Approved" if number % 2 else "Rejected") for number in range(5)]
    found: list[str] = []
    token: dict[str, Any] = {}
    while True:
        page = models.list_model_packages({"ModelPackageGroupName": "g", "MaxResults": 2, **token})
        found += [one["ModelPackageArn"] for one in page["ModelPackageSummaryList"]]
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    assert found == arns[::-1]
    approved = models.list_model_packages({"ModelPackageGroupName": "g", "ModelApprovalStatus": "Approved"})
    assert len(approved["ModelPackageSummaryList"]) == 2
    oldest = models.list_model_packages({"ModelPackageGroupName": "g", "SortOrder": "Ascending", "MaxResults": 1})
    assert oldest["ModelPackageSummaryList"][0]["ModelPackageArn"] == arns[0]
    with refused():
        models.list_model_packages({"ModelPackageGroupName": "g", "NextToken": "nonsense"})
    groups = models.list_model_package_groups({"NameContains": "g"})["ModelPackageGroupSummaryList"]
    assert [one["ModelPackageGroupName"] for one in groups] == ["g"]


def test_everything_is_there_after_a_restart(models: ModelPackages, tmp_path: Path) -> None:
    arn = package(models, ClientToken="t1", ModelApprovalStatus="Approved")
    models.delete_model_package({"ModelPackageName": package(models)})
    again = ModelPackages(tmp_path)
    assert again.describe_model_package({"ModelPackageName": arn}) == models.describe_model_package(
        {"ModelPackageName": arn}
    )
    assert package(again, ClientToken="t1", ModelApprovalStatus="Approved") == arn
    assert package(again)[-4:] == "/g/3"


def test_a_damaged_file_is_set_aside_and_the_others_are_read(models: ModelPackages, tmp_path: Path) -> None:
    models.create_model_package_group({"ModelPackageGroupName": "h"})
    (tmp_path / "h.json").write_text('{"half')
    again = ModelPackages(tmp_path)
    assert again.describe_model_package_group({"ModelPackageGroupName": "g"})
    with refused():
        again.describe_model_package_group({"ModelPackageGroupName": "h"})
    assert (tmp_path / "h.damaged").exists()


def test_what_cannot_be_written_did_not_happen(models: ModelPackages, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("spotune.local.double.model_packages.replace_file", full)
        with pytest.raises(OSError, match="No space"):
            package(models)
        with pytest.raises(OSError, match="No space"):
            models.create_model_package_group({"ModelPackageGroupName": "h"})
    assert models.list_model_packages({"ModelPackageGroupName": "g"})["ModelPackageSummaryList"] == []
    assert package(models)[-4:] == "/g/1"
    models.create_model_package_group({"ModelPackageGroupName": "h"})
