"""A job's checkpoints in S3: which of them are whole, and when S3 may forget them.

They lie in each tenant's own folder, which no lifecycle rule can name, so that the rules of infra/ go by a tag.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import TypeVar

from pydantic import ValidationError

from spotune.aws.base import ObjectMissing
from spotune.contracts import layout
from spotune.contracts.base import Contract, Seconds
from spotune.contracts.job import JobRecord
from spotune.contracts.training import MANIFEST_NAME, Manifest
from spotune.service.installation import Installation
from spotune.service.jobs.control import job_of

C = TypeVar("C", bound=Contract)

TAG = ("spotune-job", "ended")
"""What the lifecycle rules of the artifacts bucket and of further regions' jobs buckets look for."""

SETTLED: Seconds = 300
"""After which a checkpoint's files have arrived, if they ever do."""

logger = logging.getLogger(__name__)


def list_checkpoints(here: Installation, tenant: str, job_id: str) -> tuple[JobRecord, tuple[Manifest, ...]]:
    """The job, and its checkpoints that are complete in S3, newest first."""
    job = job_of(here, tenant, job_id)
    folder = layout.checkpoints_uri(here.job_folder(job))
    uris = [one.uri for one in here.objects.list(folder) if one.uri.endswith("/" + MANIFEST_NAME)]
    found = [manifest for uri in uris if (manifest := read_contract(here, Manifest, uri)) is not None]
    return job, tuple(sorted(found, key=lambda manifest: -manifest.step))


def verified_checkpoints(here: Installation, job: JobRecord) -> tuple[tuple[Manifest, ...], tuple[str, ...]]:
    """Checkpoints in S3 whose files are all there, as long as their manifest says, newest first; and in words the newer
    ones of which that is not so. The container alone reads the bytes.

    What was written within `SETTLED` may still be on its way: a sync sends files in any order.
    """
    if not here.runs_in(job.region):
        return (), ()
    folder = layout.checkpoints_uri(here.job_folder(job))
    there = {one.uri: one for one in here.objects.list(folder)}
    sizes = {uri: one.bytes for uri, one in there.items()}
    uris = [uri for uri in there if uri.endswith("/" + MANIFEST_NAME)]
    found = {uri: manifest for uri in uris if (manifest := read_contract(here, Manifest, uri)) is not None}
    whole, damaged = [], []
    for uri, manifest in sorted(found.items(), key=lambda item: -item[1].step):
        fault = lacks(manifest, uri.removesuffix(MANIFEST_NAME), sizes)
        if not fault:
            whole.append(manifest)
        elif not whole and here.clock() - there[uri].modified > SETTLED:
            damaged.append(f"checkpoint-{manifest.step}: {fault}.")
    return tuple(whole), tuple(damaged)


def lacks(manifest: Manifest, folder: str, sizes: Mapping[str, int]) -> str:
    """`Manifest.lacks` of a folder in S3, by the bytes of its objects by their URIs."""
    return manifest.lacks(lambda name: sizes.get(folder + name))


def read_contract(here: Installation, kind: type[C], uri: str) -> C | None:
    """What S3 holds of this kind; None where there is none, or it does not parse: then it does not exist."""
    try:
        return kind.model_validate_json(here.objects.read(uri))
    except (ObjectMissing, ValidationError):
        return None


def release_checkpoints(here: Installation, job: JobRecord) -> None:
    """Let S3 forget the job's checkpoints. It may be cut off anywhere and begun again.

    A retry copies what it goes on from, without the tag: its own checkpoints are kept as long as it runs.

    Raises:
        Unavailable: S3 does not answer.
    """
    marked = 0
    for checkpoint in here.objects.list(layout.checkpoints_uri(here.job_folder(job))):
        with suppress(ObjectMissing):  # somebody was quicker
            here.objects.mark(checkpoint.uri, *TAG)
            marked += 1
    logger.info("%d files of checkpoints are kept no longer than the installation says", marked)
