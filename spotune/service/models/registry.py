"""Models by their names: base models, versions of groups, and tuned models of jobs that stand alone."""

from __future__ import annotations

from collections.abc import Iterator

from spotune.contracts.base import Timestamp
from spotune.contracts.errors import NotFound
from spotune.contracts.job import JobRecord, ModelReference
from spotune.contracts.models import ModelVersion, VersionStatus
from spotune.service.installation import Installation
from spotune.service.models.base_models import base_model, base_models

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
