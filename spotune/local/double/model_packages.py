"""SageMaker's model registry: groups, and the versioned packages in them. One JSON file a group, replaced atomically.

Supports: groups, versioned packages with approval, metadata, metrics and lists. Not: packages without a group,
packages made of an algorithm, validation jobs, model cards' own resources, access from other accounts.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from spotune.local.double.faults import ServiceError, invalid
from spotune.local.double.storage import replace_file
from spotune.local.double.validation import validated

DEFAULT_PAGE = 10
MOST_METADATA = 50
_KEPT_BESIDE = frozenset({"Tags", "ClientToken"})
"""Of a request, what no description shows."""
_CHANGEABLE = ("ApprovalDescription", "InferenceSpecification", "ModelApprovalStatus", "ModelLifeCycle", "SourceUri")
_VERSION = re.compile(r"(?P<group>[a-zA-Z0-9-]+)/(?P<number>\d+)")

Document = dict[str, Any]

log = logging.getLogger(__name__)


class ModelPackages:
    """CreateModelPackageGroup and its neighbours, in process. Requests and answers are the API's own documents.

    Args:
        folder: where groups outlive the double; None: nowhere.
        region, account: of the ARNs.
        now: seconds since the epoch.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        region: str = "us-east-1",
        account: str = "000000000000",
        now: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._now = now
        self._arn = f"arn:aws:sagemaker:{region}:{account}:"
        self._lock = threading.RLock()
        self._groups: dict[str, Document] = {} if folder is None else _load(folder)

    def create_model_package_group(self, request: Document) -> Document:
        """Make a group.

        Raises:
            ServiceError: ValidationException where one of its name exists.
        """
        request = validated("CreateModelPackageGroup", request)
        name = request["ModelPackageGroupName"]
        with self._lock:
            if name in self._groups:
                raise invalid(f"Model Package Group already exists: {self._group_arn(name)}")
            about = {key: value for key, value in request.items() if key not in _KEPT_BESIDE}
            about |= {"ModelPackageGroupArn": self._group_arn(name), "CreationTime": self._now()}
            about |= {"CreatedBy": {}, "ModelPackageGroupStatus": "Completed"}
            kept = {"about": about, "tags": request.get("Tags", []), "last": 0, "packages": {}, "tokens": {}}
            self._save(name, kept)
            return {"ModelPackageGroupArn": about["ModelPackageGroupArn"]}

    def describe_model_package_group(self, request: Document) -> Document:
        """One group. Raises ServiceError: ValidationException where there is none."""
        request = validated("DescribeModelPackageGroup", request)
        with self._lock:
            return dict(self._group(request["ModelPackageGroupName"])["about"])

    def list_model_package_groups(self, request: Document) -> Document:
        """One page of groups. Raises ServiceError: ValidationException."""
        request = validated("ListModelPackageGroups", request)
        with self._lock:
            found = [dict(group["about"]) for group in self._groups.values()]
        for one in found:
            del one["CreatedBy"]
        return _page(found, request, "ModelPackageGroupName", "ModelPackageGroupSummaryList")

    def delete_model_package_group(self, request: Document) -> Document:
        """Forget an empty group.

        Raises:
            ServiceError: ValidationException where there is none, ConflictException where it has packages.
        """
        request = validated("DeleteModelPackageGroup", request)
        with self._lock:
            name = _last(request["ModelPackageGroupName"])
            if self._group(name)["packages"]:
                raise ServiceError("ConflictException", f"Model Package Group {name} has model packages.")
            if self._folder is not None:
                (self._folder / f"{name}.json").unlink(missing_ok=True)
            del self._groups[name]
        return {}

    def create_model_package(self, request: Document) -> Document:
        """Make the next version of a group. The same client token makes one package.

        Raises:
            ServiceError: ValidationException, or ConflictException where the token made another package.
        """
        request = validated("CreateModelPackage", request)
        _check_rules(request)
        with self._lock:
            name = _last(request["ModelPackageGroupName"])
            group = self._group(name)
            token, asked = request.get("ClientToken"), json.dumps(request, sort_keys=True, default=str)
            if token in group["tokens"]:
                arn, before = group["tokens"][token]
                if before != asked:
                    raise ServiceError("ConflictException", f"The client token {token} made another model package.")
                return {"ModelPackageArn": arn}
            package = self._package_of(request, name, group["last"] + 1)
            arn = package["ModelPackageArn"]
            tokens = group["tokens"] | ({token: [arn, asked]} if token else {})
            packages = group["packages"] | {str(package["ModelPackageVersion"]): package}
            self._save(name, group | {"last": group["last"] + 1, "packages": packages, "tokens": tokens})
            return {"ModelPackageArn": arn}

    def describe_model_package(self, request: Document) -> Document:
        """One package. Raises ServiceError: ValidationException where there is none."""
        request = validated("DescribeModelPackage", request)
        with self._lock:
            return dict(self._package(request["ModelPackageName"])[2])

    def update_model_package(self, request: Document) -> Document:
        """Change a package's approval, metadata or specification.

        Raises:
            ServiceError: ValidationException where there is none, or it would have too much metadata.
        """
        request = validated("UpdateModelPackage", request)
        with self._lock:
            name, number, package = self._package(request["ModelPackageArn"])
            metadata = package.get("CustomerMetadataProperties", {}) | request.get("CustomerMetadataProperties", {})
            for key in request.get("CustomerMetadataPropertiesToRemove", []):
                metadata.pop(key, None)
            if len(metadata) > MOST_METADATA:
                raise invalid(f"A model package takes {MOST_METADATA} customer metadata properties at most.")
            changed = package | {key: request[key] for key in _CHANGEABLE if key in request}
            changed |= {"CustomerMetadataProperties": metadata, "LastModifiedTime": self._now()}
            self._replace(name, number, changed)
            return {"ModelPackageArn": changed["ModelPackageArn"]}

    def list_model_packages(self, request: Document) -> Document:
        """One page of packages. Raises ServiceError: ValidationException where there is no such group."""
        request = validated("ListModelPackages", request)
        with self._lock:
            wanted = request.get("ModelPackageGroupName")
            groups = list(self._groups.values()) if wanted is None else [self._group(wanted)]
            packages = [package for group in groups for package in group["packages"].values()]
        status = request.get("ModelApprovalStatus")
        found = [_summary(one) for one in packages if status in (None, one.get("ModelApprovalStatus"))]
        return _page(found, request, "ModelPackageArn", "ModelPackageSummaryList")

    def delete_model_package(self, request: Document) -> Document:
        """Forget a package; its version is not used again. Raises ServiceError: ValidationException."""
        request = validated("DeleteModelPackage", request)
        with self._lock:
            name, number, _ = self._package(request["ModelPackageName"])
            self._replace(name, number, None)
        return {}

    def _package_of(self, request: Document, group: str, number: int) -> Document:
        package = {key: value for key, value in request.items() if key not in _KEPT_BESIDE}
        return package | {
            "ModelPackageName": group,
            "ModelPackageGroupName": group,
            "ModelPackageVersion": number,
            "ModelPackageArn": f"{self._arn}model-package/{group}/{number}",
            "CreationTime": self._now(),
            "ModelPackageStatus": "Completed",
            "ModelPackageStatusDetails": {"ValidationStatuses": [], "ImageScanStatuses": []},
            "ModelApprovalStatus": request.get("ModelApprovalStatus", "PendingManualApproval"),
        }

    def _replace(self, name: str, number: str, package: Document | None) -> None:
        group = self._group(name)
        packages = {key: value for key, value in group["packages"].items() if key != number}
        self._save(name, group | {"packages": packages | ({} if package is None else {number: package})})

    def _save(self, name: str, group: Document) -> None:
        """Written first and known then: what cannot be written did not happen."""
        if self._folder is not None:
            replace_file(self._folder / f"{name}.json", json.dumps(group).encode())
        self._groups[name] = group

    def _group(self, name: str) -> Document:
        name = _last(name)
        if name not in self._groups:
            raise invalid(f"ModelPackageGroup {self._group_arn(name)} does not exist.")
        return self._groups[name]

    def _package(self, arn: str) -> tuple[str, str, Document]:
        """Group, number and document of a package, by its ARN."""
        place = _VERSION.fullmatch(arn.partition("model-package/")[2])
        package = self._groups.get(place["group"], {}).get("packages", {}).get(place["number"]) if place else None
        if place is None or package is None:
            raise invalid(f"ModelPackage {arn} does not exist.")
        return place["group"], place["number"], package

    def _group_arn(self, name: str) -> str:
        return f"{self._arn}model-package-group/{name}"


def _check_rules(request: Document) -> None:
    if ("ModelPackageName" in request) == ("ModelPackageGroupName" in request):
        raise invalid("You must specify exactly one of ModelPackageName and ModelPackageGroupName.")
    if "ModelPackageName" in request:
        raise invalid("Packages without a group are not available here: give a ModelPackageGroupName.")
    if request.get("Tags"):
        raise invalid("Tags are not supported for a versioned model package: tag its group.")
    if "SourceUri" in request and "InferenceSpecification" in request:
        raise invalid("SourceUri and InferenceSpecification cannot be given together.")
    if "SourceAlgorithmSpecification" in request or "ValidationSpecification" in request:
        raise invalid("Packages made of an algorithm and validation jobs are not available here.")


def _summary(package: Document) -> Document:
    shown = ("Name", "GroupName", "Version", "Arn", "Description", "Status", "RegistrationType")
    names = [f"ModelPackage{name}" for name in shown] + ["CreationTime", "ModelApprovalStatus", "ModelLifeCycle"]
    return {name: package[name] for name in names if name in package}


def _page(found: Iterable[Document], request: Document, name: str, listed: str) -> Document:
    """What matches, newest first unless asked otherwise, from the token on: the place of the last one before."""
    matching = [one for one in found if _matches(one, request, name)]
    by_name = request.get("SortBy") == "Name"
    matching.sort(
        key=lambda one: ("" if by_name else one["CreationTime"], one.get("ModelPackageVersion", 0), one[name])
    )
    if request.get("SortOrder", "Descending") == "Descending":
        matching.reverse()
    first = _place(request.get("NextToken"), [one[name] for one in matching])
    size = request.get("MaxResults", DEFAULT_PAGE)
    page = matching[first : first + size]
    more = len(matching) > first + size
    return {listed: page, **({"NextToken": page[-1][name]} if more else {})}


def _matches(one: Document, request: Document, name: str) -> bool:
    created = one["CreationTime"]
    return (
        request.get("NameContains", "") in one[name]
        and request.get("CreationTimeAfter", created) <= created
        and request.get("CreationTimeBefore", created) >= created
    )


def _place(token: str | None, names: list[str]) -> int:
    if token is None:
        return 0
    if token not in names:
        raise invalid("Invalid NextToken.")
    return names.index(token) + 1


def _last(name: str) -> str:
    """A group's name out of its ARN, or as it is."""
    return name.rpartition("/")[2]


def _load(folder: Path) -> dict[str, Document]:
    folder.mkdir(parents=True, exist_ok=True)
    groups = {}
    for path in folder.glob("*.json"):
        try:
            group = json.loads(path.read_bytes())
            groups[str(group["about"]["ModelPackageGroupName"])] = group
        except (ValueError, TypeError, KeyError) as error:
            log.warning("%s is damaged (%s) and set aside; its group is lost", path, error)
            os.replace(path, path.with_suffix(".damaged"))
    return groups
