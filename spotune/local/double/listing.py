"""ListTrainingJobs: filters, order, and pages that stay put while jobs come and go."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any

from spotune.local.double.describe import summary
from spotune.local.double.faults import invalid
from spotune.local.double.job import Job

DEFAULT_PAGE = 10


def page(jobs: Iterable[Job], request: dict[str, Any]) -> dict[str, Any]:
    """The jobs that match, in order, from NextToken on.

    Raises:
        ServiceError: ValidationException where the token is none of ours.
    """
    descending = request.get("SortOrder") == "Descending"
    matching = sorted((job for job in jobs if _matches(job, request)), key=lambda job: _key(job, request))
    if descending:
        matching.reverse()
    if "NextToken" in request:
        last = _read_token(request["NextToken"])
        matching = [job for job in matching if _after(_key(job, request), last, descending)]
    size = request.get("MaxResults", DEFAULT_PAGE)
    answer: dict[str, Any] = {"TrainingJobSummaries": [summary(job) for job in matching[:size]]}
    if len(matching) > size:
        answer["NextToken"] = _write_token(_key(matching[size - 1], request))
    return answer


def _matches(job: Job, request: dict[str, Any]) -> bool:
    return (
        request.get("NameContains", "") in job.name
        and request.get("StatusEquals", job.status) == job.status
        and request.get("CreationTimeAfter", job.created_at) <= job.created_at
        and request.get("CreationTimeBefore", job.created_at) >= job.created_at
        and request.get("LastModifiedTimeAfter", job.modified_at) <= job.modified_at
        and request.get("LastModifiedTimeBefore", job.modified_at) >= job.modified_at
        and "WarmPoolStatusEquals" not in request
        and "TrainingPlanArnEquals" not in request
    )


def _key(job: Job, request: dict[str, Any]) -> tuple[float, str, str]:
    by = request.get("SortBy", "CreationTime")
    return (
        job.created_at if by == "CreationTime" else 0.0,
        job.status if by == "Status" else "",
        job.name,
    )


def _after(key: tuple[float, str, str], last: tuple[float, str, str], descending: bool) -> bool:
    return key < last if descending else key > last


def _write_token(key: tuple[float, str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def _read_token(token: str) -> tuple[float, str, str]:
    try:
        moment, status, name = json.loads(base64.urlsafe_b64decode(token))
        return float(moment), str(status), str(name)
    except (ValueError, TypeError) as error:
        raise invalid("Invalid NextToken.") from error
