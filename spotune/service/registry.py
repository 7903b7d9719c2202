"""Models and checkpoints: versions of groups, and what is read from the jobs that made it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import ValidationError

from spotune.aws.base import ObjectInfo, ObjectMissing
from spotune.contracts import layout
from spotune.contracts.base import Seconds, Timestamp
from spotune.contracts.errors import NotFound
from spotune.contracts.job import JobRecord, ModelReference
from spotune.contracts.models import ModelVersion, VersionStatus
from spotune.contracts.training import MANIFEST_NAME, Manifest
from spotune.service.base_models import base_model, base_models
from spotune.service.control import job_of
from spotune.service.installation import Installation

SETTLED: Seconds = 300
"""After which a checkpoint's files have arrived, if they ever do."""
JOBS_READ = 1000
"""How many of a tenant's newest jobs a listing of models looks at."""
VERSIONS_READ = 200
"""How many of a group's newest versions it looks at."""
HIDDEN: frozenset[VersionStatus] = frozenset({"rejected", "deleted"})
"""Versions that are seen in their group alone."""

Tuned = ModelVersion | JobRecord


def list_models(here: Installation, tenant: str) -> tuple[tuple[ModelReference, ...], tuple[Tuned, ...]]:
    """The base models, and the tuned ones that passed their gate, newest first: versions of groups, and the jobs of
    those that stand alone or are being registered."""
    versions = {version.name: version for version in _all_versions(here, tenant)}
    tuned: list[tuple[Timestamp, Tuned]] = [
        (version.lineage.trained_at, version) for version in versions.values() if version.status not in HIDDEN
    ]
    tuned += [
        (job.finished_at or job.updated_at, job)
        for job in _newest_jobs(here, tenant)
        if job.fine_tuned_model is not None and job.fine_tuned_model not in versions
    ]
    return base_models(here), tuple(one for _, one in sorted(tuned, key=lambda pair: -pair[0]))


def find_model(here: Installation, tenant: str, name: str) -> ModelReference | Tuned:
    """A base model, the version of a group, or the job of a tuned one that stands alone.

    Raises:
        NotFound: there is none of this name, for this tenant.
    """
    if not name.startswith("ft:"):
        return base_model(here, name).reference
    version = here.store.find_version(tenant, name)
    if version is not None and version.status not in HIDDEN:
        return version
    job = here.store.get_job(tenant, "ftjob-" + name.rpartition(":")[2])
    if version is not None or job is None or job.fine_tuned_model != name:
        raise NotFound(
            f"No model {name!r}.", code="model_not_found", param="model", remedy="List yours with GET /v1/models."
        )
    return job


def _all_versions(here: Installation, tenant: str) -> Iterator[ModelVersion]:
    after: str | None = None
    while True:
        page = here.store.list_groups(tenant, after=after, limit=100)
        for group in page.items:
            yield from here.store.list_versions(tenant, group.name, after=0, limit=VERSIONS_READ).items
        if not page.has_more:
            return
        after = page.items[-1].name


def _newest_jobs(here: Installation, tenant: str) -> Iterator[JobRecord]:
    after, read = None, 0
    while read < JOBS_READ:
        page = here.store.list_jobs(tenant, after=after, limit=100)
        yield from page.items
        read += len(page.items)
        if not page.has_more:
            return
        after = page.items[-1].id


def checkpoints(here: Installation, tenant: str, job_id: str) -> tuple[JobRecord, tuple[Manifest, ...]]:
    """The job, and its checkpoints that are complete in S3, newest first."""
    job = job_of(here, tenant, job_id)
    folder = layout.checkpoints_uri(here.job_folder(job))
    uris = [one.uri for one in here.objects.list(folder) if one.uri.endswith("/" + MANIFEST_NAME)]
    found = [manifest for uri in uris if (manifest := _manifest(here, uri)) is not None]
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
    uris = [uri for uri, one in there.items() if uri.endswith("/" + MANIFEST_NAME)]
    found = {uri: manifest for uri in uris if (manifest := _manifest(here, uri)) is not None}
    whole, damaged = [], []
    for uri, manifest in sorted(found.items(), key=lambda item: -item[1].step):
        fault = _fault_of(uri.removesuffix(MANIFEST_NAME), manifest, there)
        if not fault:
            whole.append(manifest)
        elif not whole and here.clock() - there[uri].modified > SETTLED:
            damaged.append(f"checkpoint-{manifest.step}: {fault}.")
    return tuple(whole), tuple(damaged)


def _fault_of(folder: str, manifest: Manifest, there: Mapping[str, ObjectInfo]) -> str:
    for file in manifest.files:
        one = there.get(folder + file.name)
        if one is None:
            return f"{file.name} is missing"
        if one.bytes != file.bytes:
            return f"{file.name} has {one.bytes} bytes instead of {file.bytes}"
    return ""


def _manifest(here: Installation, uri: str) -> Manifest | None:
    """A checkpoint whose manifest is gone or does not parse does not exist."""
    try:
        return Manifest.model_validate_json(here.objects.read(uri))
    except (ObjectMissing, ValidationError):
        return None
