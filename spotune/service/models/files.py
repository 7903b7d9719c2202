"""The files of a model version: taken down when it is registered, and looked at again before it becomes champion."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch

from spotune.aws.base import ObjectInfo, ObjectMissing
from spotune.contracts.job import JobRecord
from spotune.contracts.models import ModelFile, ModelVersion
from spotune.contracts.training import PublishedOutput
from spotune.service.files.copies import delete_copies
from spotune.service.installation import Installation

logger = logging.getLogger(__name__)

HASHED_BYTES = 2 * 1024**3
"""Of one version: more is known by sizes and ETags alone. A Lambda reads so much in less than a minute."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """A version's files; `fault` says what is wrong with them, and then none is listed."""

    files: tuple[ModelFile, ...] = ()
    fault: str = ""


def take_inventory(here: Installation, job: JobRecord) -> Inventory:
    """What a job left, if all is there that its report says.

    Raises:
        Unavailable, AwsRefused: S3 does not say.
    """
    folder, outputs = job.output_uri or "", job.report.outputs if job.report is not None else ()
    try:
        there = _listed(here, folder)
        fault = _lacks(there, outputs)
        if fault:
            return Inventory(fault=fault)
        hashed = sum(one.bytes for one in there.values()) <= HASHED_BYTES
        return Inventory(tuple(_file(here, name, one, hashed=hashed) for name, one in there.items()))
    except ObjectMissing as gone:
        return Inventory(fault=f"{gone.uri} is not there")


def fault_of(here: Installation, version: ModelVersion) -> str:
    """What became of a version's files since it was registered, in words; empty where they are as they were.

    Raises:
        Unavailable, AwsRefused: S3 does not say.
    """
    if not version.files:
        return f"its files were not whole when it was registered ({version.uri})"
    try:
        there = _listed(here, version.uri)
        faults = (_changed(here, file, there.get(file.name)) for file in version.files)
        return next((fault for fault in faults if fault), "")
    except ObjectMissing as gone:
        return f"{gone.uri} is not there"


def delete_files(here: Installation, version: ModelVersion) -> None:
    """Delete all that lies in a version's folder, and what further regions hold of it. What is gone stays gone."""
    try:
        for one in list(here.objects.list(version.uri)):
            here.objects.delete(one.uri)
    except ObjectMissing as gone:
        logger.info("nothing to delete: %s", gone)  # the bucket itself
    delete_copies(here, version.tenant, version.uri)


def _listed(here: Installation, folder: str) -> dict[str, ObjectInfo]:
    if not folder.endswith("/"):
        raise ValueError(f"{folder!r} is no folder")
    return {one.uri.removeprefix(folder): one for one in here.objects.list(folder)}


def _lacks(there: Mapping[str, ObjectInfo], outputs: tuple[PublishedOutput, ...]) -> str:
    if not there:
        return "its folder is empty"
    for output in outputs:
        found = sum(one.bytes for name, one in there.items() if _belongs(name, output))
        if found != output.bytes:
            return f"the {output.name} has {found} bytes where {output.bytes} were published"
    return ""


def _belongs(name: str, output: PublishedOutput) -> bool:
    """Of an adapter or a whole model the report counts the weights, of the others every file."""
    if output.path == ".":
        return "/" not in name and fnmatch(name, "*.safetensors")
    return name == output.path or name.startswith(f"{output.path}/")


def _file(here: Installation, name: str, one: ObjectInfo, *, hashed: bool) -> ModelFile:
    return ModelFile(name=name, bytes=one.bytes, etag=one.etag, sha256=_sha256(here, one.uri) if hashed else None)


def _changed(here: Installation, file: ModelFile, one: ObjectInfo | None) -> str:
    if one is None:
        return f"{file.name} is missing"
    if one.bytes != file.bytes:
        return f"{file.name} has {one.bytes} bytes instead of {file.bytes}"
    # The same bytes, put there again in parts of another size, have another ETag.
    if one.etag != file.etag and (file.sha256 is None or _sha256(here, one.uri) != file.sha256):
        return f"{file.name} is another one than was registered"
    return ""


def _sha256(here: Installation, uri: str) -> str:
    digest = hashlib.sha256()
    for chunk in here.objects.stream(uri):
        digest.update(chunk)
    return digest.hexdigest()
