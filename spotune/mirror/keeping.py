"""Base models that are in the bucket: whether they are still what was added, and taking them away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from spotune.contracts.base_model import BaseModelManifest
from spotune.contracts.errors import Conflict, NotFound, RequestRefused
from spotune.contracts.layout import MODEL_MARKER, base_model_uri
from spotune.deploy.account import call, pages
from spotune.mirror.bucket import ModelsBucket
from spotune.mirror.fetching import Advance


def manifest_of(bucket: ModelsBucket, name: str) -> BaseModelManifest:
    """The revision in force.

    Raises:
        NotFound: there is no such base model.
    """
    found = bucket.manifest(name)
    if found is None:
        raise _unknown(bucket, name)
    return found


def faults(bucket: ModelsBucket, manifest: BaseModelManifest, advance: Advance) -> Iterator[str]:
    """Read every file of a revision and say what is not as it was added.

    Raises:
        RequestRefused: nobody has ever hashed its files.
    """
    if not manifest.files:
        raise RequestRefused(
            f"The files of {manifest.name} were never hashed.",
            code="base_model_not_hashed",
            param="model",
            remedy="Add it again with `spotune models add`.",
        )
    name, folder = manifest.name, manifest.folder
    beside = bucket.manifest(name, folder)
    if beside is None or beside.sha256 != manifest.sha256:
        yield f"{folder}{MODEL_MARKER} is {'missing' if beside is None else 'of other files'}"
    sizes = bucket.sizes(name, folder)
    known = {MODEL_MARKER, *(file.name for file in manifest.files)}
    yield from (f"{folder}{file} was added by somebody else" for file in sorted(sizes.keys() - known))
    for file in manifest.files:
        if file.name not in sizes:
            yield f"{folder}{file.name} is missing"
        elif sizes[file.name] != file.bytes:
            yield f"{folder}{file.name} has {sizes[file.name]} bytes instead of {file.bytes}"
        elif bucket.sha256(name, folder, file.name) != file.sha256:
            yield f"{folder}{file.name} has other bytes"
        advance(file.bytes)


def check_unused(sagemaker: Any, bucket: ModelsBucket, name: str) -> None:
    """Refuse while training jobs read the model: one that is interrupted reads it again.

    Raises:
        Conflict: names them.
    """
    prefix, reading = base_model_uri(bucket.name, name), []
    for job in _in_progress(sagemaker):
        described = call(sagemaker.describe_training_job, TrainingJobName=job)
        channels = described.get("InputDataConfig", ())
        if any(one["DataSource"]["S3DataSource"]["S3Uri"].startswith(prefix) for one in channels):
            reading.append(job)
    if reading:
        raise Conflict(
            f"{len(reading)} training jobs read {name}: {', '.join(reading[:5])}.",
            code="model_in_use",
            param="model",
            remedy="Wait for their ends, or cancel their jobs.",
        )


def remove(bucket: ModelsBucket, name: str) -> int:
    """Take a model away with all of its revisions; returns how many files they had.

    What makes it a model goes first, so that a call that is cut off leaves no half of one; the same call goes on.

    Raises:
        NotFound: nothing of it is there.
    """
    beside, folders = bucket.sizes(name, ""), bucket.folders(name)
    if not beside and not folders:
        raise _unknown(bucket, name)
    gone = 0
    for folder, sizes in (("", beside), *((folder, bucket.sizes(name, folder)) for folder in folders)):
        bucket.delete(name, folder, sorted(sizes, key=lambda file: file != MODEL_MARKER))
        gone += len(sizes)
    return gone


def _in_progress(sagemaker: Any) -> Iterator[str]:
    asked = {"NameContains": "ftjob-", "StatusEquals": "InProgress", "MaxResults": 100}
    for page in pages(sagemaker, "list_training_jobs", **asked):
        yield from (one["TrainingJobName"] for one in page["TrainingJobSummaries"])


def _unknown(bucket: ModelsBucket, name: str) -> NotFound:
    return NotFound(
        f"There is no base model {name} in s3://{bucket.name}.",
        code="model_not_found",
        param="model",
        remedy="`spotune models base` lists those that are there.",
    )
