"""What jobs were trained on: where it lies, and how it is made again."""

from __future__ import annotations

from collections.abc import Sequence

from spotune.contracts.dataset import DatasetReport
from spotune.contracts.errors import Conflict
from spotune.contracts.job import JobRecord
from spotune.contracts.layout import split_uri
from spotune.contracts.pull import URL_SECONDS, DatasetObject, PinnedObject, PulledFile
from spotune.data.assembly.refusals import damaged_manifest
from spotune.service.installation import Installation
from spotune.service.jobs.control import job_of
from spotune.service.retraining.datasets import read_manifest


def dataset_of(here: Installation, tenant: str, job_id: str) -> DatasetObject:
    """A job's files by what they hashed to when it was checked, with URLs to read them from.

    Raises:
        NotFound: there is no such job of this tenant.
        Conflict: its files have not been read yet, or were refused.
    """
    job = job_of(here, tenant, job_id)
    if job.training is None:
        raise Conflict(
            f"The files of job {job.id} have not been checked yet.",
            code="dataset_not_checked",
            param="fine_tuning_job_id",
            remedy="Ask again once the job is queued.",
        )
    files = [_file(here, "training", job.training)]
    if job.validation is not None:
        files.append(_file(here, "validation", job.validation))
    manifest = _manifest_uri(here, job)
    return DatasetObject(
        job_id=job.id,
        files=tuple(files),
        manifest_url=None if manifest is None else here.objects.presign_read(manifest, URL_SECONDS),
        expires_at=int(here.clock()) + URL_SECONDS,
    )


def pinned_objects(
    here: Installation, tenant: str, job_id: str, *, after: str | None, limit: int
) -> tuple[Sequence[PinnedObject], bool]:
    """A page of the object versions that a job's dataset can be built from again, and whether there are more. None of a
    job whose files a person gave.

    Raises:
        NotFound: there is no such job of this tenant.
        DatasetRefused: the manifest was tampered with (code `manifest_damaged`).
    """
    uri = _manifest_uri(here, job_of(here, tenant, job_id))
    if uri is None:
        return (), False
    first = 0 if after is None else int(after) + 1
    needed = [(place, entry) for place, entry in enumerate(read_manifest(here, uri).entries) if entry.taken]
    left = [(place, entry) for place, entry in needed if place >= first]
    for _, entry in left[:limit]:
        if not _may_read(here, tenant, entry.uri):
            raise damaged_manifest(entry.uri, "the object is not yours")
    page = [
        PinnedObject(
            id=str(place),
            uri=entry.uri,
            version_id=entry.version_id,
            url=here.objects.presign_read(entry.uri, URL_SECONDS, version_id=entry.version_id),
        )
        for place, entry in left[:limit]
    ]
    return page, len(left) > limit


def _file(here: Installation, role: str, report: DatasetReport) -> PulledFile:
    there = here.objects.head(report.uri) is not None
    return PulledFile.model_validate(
        {
            "role": role,
            "uri": report.uri,
            "sha256": report.sha256,
            "bytes": report.bytes,
            "rows": report.rows,
            "url": here.objects.presign_read(report.uri, URL_SECONDS) if there else None,
        }
    )


def _manifest_uri(here: Installation, job: JobRecord) -> str | None:
    """Of a job that a rule has started, where it is still there."""
    rule_id, _, number = job.retraining.partition("/")
    if not number.isdecimal():
        return None
    retraining = here.store.get_retraining(job.tenant, rule_id, int(number))
    uri = None if retraining is None else retraining.manifest_uri
    return uri if uri is not None and here.objects.head(uri) is not None else None


def _may_read(here: Installation, tenant: str, uri: str) -> bool:
    """A manifest lies where its tenant can write: what it names is looked at like what a person names."""
    try:
        bucket, key = split_uri(uri)
    except ValueError:
        return False
    if bucket == here.settings.data_bucket:
        return key.startswith(f"{tenant}/")
    return any(one.tenant == tenant and one.holds(bucket, key) for one in here.settings.sources)
