"""Base models that are in the bucket: whether they are still what was added, and taking them away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from spotune.aws.training_jobs import TrainingJobs
from spotune.contracts.base_model import BaseModelManifest
from spotune.contracts.errors import Conflict, NotFound, RequestRefused
from spotune.contracts.layout import MODEL_MARKER, base_model_uri
from spotune.deploy.account import call
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
    prefix = base_model_uri(bucket.name, name)
    running = call(lambda: {"names": [*TrainingJobs(sagemaker).live()]})["names"]
    reading = [job for job in running if any(uri.startswith(prefix) for uri in _channels(sagemaker, job))]
    if reading:
        raise Conflict(
            f"{len(reading)} training jobs read {name}: {', '.join(reading[:5])}.",
            code="model_in_use",
            param="model",
            remedy="Wait for their ends, or cancel their jobs.",
        )


def _channels(sagemaker: Any, job: str) -> list[str]:
    described = call(sagemaker.describe_training_job, TrainingJobName=job)
    return [one["DataSource"]["S3DataSource"]["S3Uri"] for one in described.get("InputDataConfig", ())]


def remove(bucket: ModelsBucket, name: str) -> int:
    """Take a model away with all of its revisions; returns how many files they had.

    What makes it a model goes first, so that a call that is cut off leaves no half of one; the same call goes on. It
    looks again until nothing is there: an `add` of the same model may have put something there meanwhile.

    Raises:
        NotFound: nothing of it is there.
    """
    gone = 0
    while lying := _lying(bucket, name):
        for folder, files in lying.items():
            bucket.delete(name, folder, sorted(files, key=lambda file: file != MODEL_MARKER))
            gone += len(files)
    if not gone:
        raise _unknown(bucket, name)
    return gone


def _lying(bucket: ModelsBucket, name: str) -> dict[str, list[str]]:
    """Every file of a model, by its folder: what lies beside the manifest in force first."""
    found = {folder: [*bucket.sizes(name, folder)] for folder in ("", *bucket.folders(name))}
    return {folder: files for folder, files in found.items() if files}


def _unknown(bucket: ModelsBucket, name: str) -> NotFound:
    return NotFound(
        f"There is no base model {name} in s3://{bucket.name}.",
        code="model_not_found",
        param="model",
        remedy="`spotune models base` lists those that are there.",
    )
