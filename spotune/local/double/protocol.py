"""SageMaker's wire form, JSON 1.1: the operation in `X-Amz-Target`, times as seconds, errors by `__type`.

The neighbours on the same port (Pricing, Service Quotas, EC2) are told apart here too.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from spotune.local.double.faults import ServiceError
from spotune.local.double.judge import Judge, Signed
from spotune.local.double.regions import Region, Regions

JSON_TYPE = "application/x-amz-json-1.1"
_NEIGHBOURS = frozenset({"AWSPriceListService", "ServiceQuotasV20190624"})

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """What goes back over HTTP."""

    status: int
    content_type: str
    body: bytes


def answer(regions: Regions, judge: Judge | None, request: Signed) -> Answer:
    """Carry out one request in the region that it is signed for.

    Args:
        regions: all of the double's.
        judge: who says what the signer may do; None where everybody may do everything.
        request: without an X-Amz-Target it is of EC2's query protocol.
    """
    target, body, region = request.header("X-Amz-Target"), request.body, regions.of(request.header("Authorization"))
    try:
        if judge is not None:
            judge.check(region.name, target, request, region.double.tags_of)
        if not target:
            return Answer(200, "text/xml;charset=UTF-8", region.market.query(body).encode())
        service, _, name = target.partition(".")
        if service in _NEIGHBOURS:
            asked = _read(body)
            return _ok(_priced(regions, region, asked).market.json_operation(service, name, asked))
        return _ok(_operation(region, target)(_read(body)))
    except ServiceError as error:
        return _refusal(error) if target else _query_refusal(error)
    except OSError:
        log.exception("%s failed", target)
        return _refusal(ServiceError("InternalFailure", "The SageMaker double could not write its state.", 500))


def _priced(regions: Regions, signed: Region, request: dict[str, Any]) -> Region:
    """Whose prices are asked for: the Price List API answers for all regions from one."""
    filters = request.get("Filters")
    codes = [one.get("Value") for one in filters if one.get("Field") == "regionCode"] if filters else []
    return regions.named(str(codes[0])) if codes else signed


def _operation(region: Region, target: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    service, _, name = target.partition(".")
    double, models = region.double, region.models
    operations: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
        "CreateTrainingJob": double.create_training_job,
        "DescribeTrainingJob": double.describe_training_job,
        "StopTrainingJob": double.stop_training_job,
        "ListTrainingJobs": double.list_training_jobs,
        "AddTags": double.add_tags,
        "ListTags": double.list_tags,
        "CreateModelPackageGroup": models.create_model_package_group,
        "DescribeModelPackageGroup": models.describe_model_package_group,
        "ListModelPackageGroups": models.list_model_package_groups,
        "DeleteModelPackageGroup": models.delete_model_package_group,
        "CreateModelPackage": models.create_model_package,
        "DescribeModelPackage": models.describe_model_package,
        "UpdateModelPackage": models.update_model_package,
        "ListModelPackages": models.list_model_packages,
        "DeleteModelPackage": models.delete_model_package,
    }
    if service != "SageMaker" or name not in operations:
        raise ServiceError("UnknownOperationException", f"The SageMaker double has no operation {target}.")
    return operations[name]


def _read(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body or b"{}")
    except ValueError as error:
        raise ServiceError("SerializationException", f"The body is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ServiceError("SerializationException", "The body must be a JSON object.")
    return document


def _ok(document: dict[str, Any]) -> Answer:
    return Answer(200, JSON_TYPE, json.dumps(document).encode())


def _refusal(error: ServiceError) -> Answer:
    return Answer(error.status, JSON_TYPE, json.dumps({"__type": error.code, "message": str(error)}).encode())


def _query_refusal(error: ServiceError) -> Answer:
    body = (
        f"<Response><Errors><Error><Code>{error.code}</Code><Message>{error}</Message></Error></Errors>"
        f"<RequestID>{uuid.uuid4()}</RequestID></Response>"
    )
    return Answer(error.status, "text/xml", body.encode())
