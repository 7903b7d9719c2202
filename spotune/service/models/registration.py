"""A job's tuned model becomes a version of its group, and the group's champion where its verdict says so."""

from __future__ import annotations

import hashlib
from functools import partial

from spotune.contracts.errors import Unavailable, VersionConflict
from spotune.contracts.job import JobRecord
from spotune.contracts.models import Lineage, ModelGroup, ModelVersion
from spotune.contracts.training import TrainingReport
from spotune.contracts.verdict import Verdict
from spotune.lifecycle.publication import model_name
from spotune.lifecycle.registry import register as take_in
from spotune.service.apart import apart
from spotune.service.installation import Installation
from spotune.service.models.files import Inventory, take_inventory
from spotune.service.models.news import settle

MOST_TRIES = 10
"""A version conflict means that somebody else moved the group on: so many in a row are a fault."""


def register(here: Installation, job: JobRecord) -> None:
    """Register a succeeded job's model in its group, once, however often the command comes.

    A job without a group stands alone: its model is read from the job itself. What the outside is to be told is told
    apart: where SageMaker or a queue is away, the reconciler does it.

    Raises:
        Unavailable, AwsRefused: the store or S3 does not answer; the command comes again.
    """
    group, report, verdict = job.request.registry.group, job.report, job.verdict
    if group is None or report is None or verdict is None or job.output_uri is None:
        return
    version = here.store.find_version(job.tenant, _name(job)) or _take_in(here, job, group, report, verdict)
    if not version.settled:
        apart(f"the news of model {version.name}", partial(settle, here, version))


def _take_in(here: Installation, job: JobRecord, name: str, report: TrainingReport, verdict: Verdict) -> ModelVersion:
    inventory = take_inventory(here, job)
    made = _version(here, job, name, report, verdict, inventory)
    for _ in range(MOST_TRIES):
        group = here.store.get_group(job.tenant, name)
        now = here.clock()
        present = group or ModelGroup(name=name, tenant=job.tenant, created_at=now)
        number = present.champion
        champion = None if number is None else here.store.get_version(job.tenant, name, number)
        move = take_in(present, champion, made, now, fault=inventory.fault)
        known = {} if champion is None else {champion.number: champion}
        try:
            here.store.commit_group(group, move.group, tuple((known.get(one.number), one) for one in move.versions))
        except VersionConflict:
            found = here.store.find_version(job.tenant, made.name)
            if found is not None:
                return found
            continue
        return here.store.find_version(job.tenant, made.name) or move.versions[0]
    raise Unavailable(f"Group {name} is being changed by others.", code="contention", remedy="Try the same call again.")


def _version(
    here: Installation, job: JobRecord, group: str, report: TrainingReport, verdict: Verdict, inventory: Inventory
) -> ModelVersion:
    return ModelVersion(
        group=group,
        tenant=job.tenant,
        number=0,
        name=_name(job),
        status="passed",
        uri=job.output_uri or "",
        files=inventory.files,
        scores=report.tuned,
        comparisons=report.comparisons,
        against_champion=report.against_champion,
        verdict=verdict,
        lineage=lineage_of(here, job, report),
        created_at=here.clock(),
    )


def lineage_of(here: Installation, job: JobRecord, report: TrainingReport) -> Lineage:
    """All that is needed to make a job's model again."""
    config = job.config
    if config is None:
        raise ValueError(f"job {job.id} was never prepared")
    data = job.training.sha256 if job.training is not None else report.data_sha256
    return Lineage(
        job_id=job.id,
        base=job.model.name,
        base_revision=job.model.revision,
        parent=job.champion.name if job.champion is not None and job.champion.start else None,
        data_sha256=data,
        evaluation_sha256=_evaluation(job, data),
        manifest_uri=f"{job.training_uri.rpartition('/')[0]}/manifest.json" if job.retraining else None,
        config_sha256=hashlib.sha256(config.model_dump_json().encode()).hexdigest(),
        code=here.settings.code,
        image=here.place(job.region).training_image if here.runs_in(job.region) else here.settings.training_image,
        seed=config.seed,
        method=report.method,
        cost=job.billed,
        trained_at=job.finished_at or job.updated_at,
    )


def _evaluation(job: JobRecord, data: str) -> str:
    """Of the file of held-out rows, or of what chose them out of the data."""
    if job.validation is not None:
        return job.validation.sha256
    chosen = "" if job.config is None else f"{job.config.data.eval_fraction} {job.config.seed}"
    return hashlib.sha256(f"{data} {chosen}".encode()).hexdigest()


def _name(job: JobRecord) -> str:
    return model_name(job.id, job.model.name, job.request.suffix)
