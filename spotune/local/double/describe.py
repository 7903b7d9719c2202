"""A job in the service's own words: DescribeTrainingJob, ListTrainingJobs, and the detail of an event."""

from __future__ import annotations

from math import ceil
from typing import Any

from spotune.local.double.job import Job

_SHOWN = (
    "HyperParameters",
    "AlgorithmSpecification",
    "RoleArn",
    "InputDataConfig",
    "OutputDataConfig",
    "VpcConfig",
    "StoppingCondition",
    "EnableNetworkIsolation",
    "EnableInterContainerTrafficEncryption",
    "EnableManagedSpotTraining",
    "CheckpointConfig",
    "Environment",
    "RetryStrategy",
    "ExperimentConfig",
)
_NOT_IN_EVENTS = ("BillableTimeInSeconds", "TrainingTimeInSeconds")


def describe(job: Job, now: float) -> dict[str, Any]:
    """DescribeTrainingJob's answer; times are seconds since the epoch, as the protocol carries them."""
    document: dict[str, Any] = {
        "TrainingJobName": job.name,
        "TrainingJobArn": job.arn,
        "TrainingJobStatus": job.status,
        "SecondaryStatus": job.secondary,
        "EnableNetworkIsolation": False,
        "EnableInterContainerTrafficEncryption": False,
        "EnableManagedSpotTraining": False,
        **{name: job.request[name] for name in _SHOWN if name in job.request},
        "ResourceConfig": _resources(job),
        "CreationTime": job.created_at,
        "LastModifiedTime": job.modified_at,
        "SecondaryStatusTransitions": _transitions(job),
        **_times(job, now),
    }
    if job.failure_reason:
        document["FailureReason"] = job.failure_reason
    if job.artifacts:
        document["ModelArtifacts"] = {"S3ModelArtifacts": job.artifacts}
    return document


def summary(job: Job) -> dict[str, Any]:
    """One entry of ListTrainingJobs."""
    entry: dict[str, Any] = {
        "TrainingJobName": job.name,
        "TrainingJobArn": job.arn,
        "CreationTime": job.created_at,
        "LastModifiedTime": job.modified_at,
        "TrainingJobStatus": job.status,
        "SecondaryStatus": job.secondary,
    }
    if job.training_ended_at is not None:
        entry["TrainingEndTime"] = job.training_ended_at
    return entry


def event_detail(job: Job, now: float) -> dict[str, Any]:
    """The detail of a state-change event: the description with times in milliseconds, and the tags."""
    document = describe(job, now)
    for name in _NOT_IN_EVENTS:
        document.pop(name, None)
    for name in ("CreationTime", "LastModifiedTime", "TrainingStartTime", "TrainingEndTime"):
        if name in document:
            document[name] = round(document[name] * 1000)
    for entry in document["SecondaryStatusTransitions"]:
        entry.update({name: round(entry[name] * 1000) for name in ("StartTime", "EndTime") if name in entry})
    return {**document, "Tags": dict(job.tags)}


def _resources(job: Job) -> dict[str, Any]:
    resources = dict(job.request["ResourceConfig"])
    if job.instance_type and "InstancePreferences" in resources:
        resources["SelectedInstanceType"] = job.instance_type
        resources["SelectedInstanceCount"] = job.instance_count
    return resources


def _transitions(job: Job) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for transition in job.transitions:
        entry = {"Status": transition.status, "StartTime": transition.started_at, "StatusMessage": transition.message}
        if transition.ended_at is not None:
            entry["EndTime"] = transition.ended_at
        entries.append(entry)
    return entries


def _times(job: Job, now: float) -> dict[str, Any]:
    times: dict[str, Any] = {}
    if job.training_started_at is not None:
        times["TrainingStartTime"] = job.training_started_at
        times["TrainingTimeInSeconds"] = ceil(job.billed(now))
        times["BillableTimeInSeconds"] = ceil(job.billed(now) * job.billable_share)
    if job.training_ended_at is not None:
        times["TrainingEndTime"] = job.training_ended_at
    return times
