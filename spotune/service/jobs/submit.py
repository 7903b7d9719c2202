"""The one way in: API, CLI and new data in S3 meet here under one idempotency key."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass

from spotune.contracts.base import MicroUSD, Timestamp
from spotune.contracts.errors import Conflict, RequestRefused, SpotuneError, Unavailable, VersionConflict
from spotune.contracts.events import CheckBegun, Prepared, Refused
from spotune.contracts.identity import ApiKey
from spotune.contracts.job import Decision, JobError, JobRecord, PayingKey
from spotune.contracts.request import JobRequest
from spotune.contracts.subject import know_job
from spotune.data.quality import SAMPLE_CHARACTERS
from spotune.lifecycle import measure_decision, open_job, open_prepared
from spotune.planner import NOTHING_DONE, Done
from spotune.service.access.tenants import check_may_train
from spotune.service.access.trackers import check_integrations
from spotune.service.identifiers import job_id
from spotune.service.installation import Installation
from spotune.service.jobs.changes import apply, limit_message, queue_commands
from spotune.service.jobs.limits import places
from spotune.service.jobs.preparation import (
    GOLDEN_FIELD,
    IN_REQUEST_BYTES,
    IN_REQUEST_CHARACTERS,
    FilesRefused,
    check_files,
    make_plan,
    resolve_file,
    size_of,
)
from spotune.service.jobs.quality import keep_quality
from spotune.service.jobs.resumption import prepare_retry
from spotune.service.models.base_models import BaseModel, base_model
from spotune.service.models.champions import champion_of, started
from spotune.store.base import LimitReached, LineFull

logger = logging.getLogger(__name__)

_REPORTED = {"training": "training_file", "validation": "validation_file", "golden": GOLDEN_FIELD}
"""Where a refusal keeps the report of each of a request's files."""


@dataclass(frozen=True, slots=True)
class ByRule:
    """A rule's retraining, which champion its data was chosen against, and who pays.

    Attributes:
        retraining: `<rule id>/<number>`.
        champion: the version's name; None where the group has none.
        key: whose limit the job counts against; None where it has none.
    """

    retraining: str
    champion: str | None
    key: PayingKey | None = None


class ChampionChanged(Exception):
    """Another version is champion than a rule chose its data against: it is to choose anew. Nothing was recorded."""


def submit(
    here: Installation,
    tenant: str,
    request: JobRequest,
    idempotency_key: str | None = None,
    *,
    key: ApiKey | None = None,
    retry_of: JobRecord | None = None,
    by_rule: ByRule | None = None,
) -> JobRecord:
    """Check, plan, reserve and record a job, and order its first attempt, or let it stand in line for that.

    The same idempotency key gives the same job however often it comes; nothing is started twice. What the job spends
    counts against the monthly limit of the API key that it was submitted with, where that has one.

    Args:
        retry_of: the job that this one does again; it goes on from that one's checkpoint where it may.
        by_rule: where a rule submits it.

    Raises:
        SpotuneError: refused; nothing was recorded, reserved or started.
        Conflict: the key was used for another body, or the job to retry has not failed.
        ChampionChanged: another one is champion than the rule chose its data against.
    """
    new_id = job_id(here.settings.stage, tenant, idempotency_key)
    digest = request_sha256(request, "" if retry_of is None else retry_of.id)
    earlier = here.store.get_job(tenant, new_id) if idempotency_key is not None else None
    if earlier is not None:
        know_job(earlier)
        return _same_request(earlier, request, None if retry_of is None else retry_of.id)
    model = base_model(here, request.model)
    job = _new_job(here, tenant, request, new_id, digest, model, retry_of)
    if by_rule is not None:
        job = job.with_(key=by_rule.key, retraining=by_rule.retraining)
    elif key is not None:
        job = job.with_(key=paying(key.id, key.monthly_limit))
    _check_champion(job, by_rule)
    know_job(job)
    return _record(here, job, _prepared_in_request(here, job, model))


def plan(here: Installation, tenant: str, request: JobRequest, *, retry_of: JobRecord | None = None) -> Prepared:
    """What `submit` would do; nothing is recorded, reserved or started.

    Raises:
        SpotuneError: as `submit` would.
    """
    model = base_model(here, request.model)
    job = _new_job(here, tenant, request, job_id(here.settings.stage, tenant, None), "", model, retry_of)
    return _prepare(here, job, model, preview=True)


def check_recorded(here: Installation, job: JobRecord) -> None:
    """Check the files of a job that was recorded before they were read, and let it go on or fail."""
    apply(here, job.id, CheckBegun(), job)
    try:
        prepared = _prepare(here, job, base_model(here, job.request.model))
    except Unavailable:
        raise  # the command stays, and is delivered again
    except SpotuneError as error:
        apply(here, job.id, _refused(error))
    else:
        apply(here, job.id, prepared)


def request_sha256(request: JobRequest, retry_of: str = "") -> str:
    """Of what a request says beside the defaults, so that a field that a later version adds changes no hash.

    Args:
        retry_of: the id of the job that is retried.
    """
    return hashlib.sha256((retry_of + request.model_dump_json(exclude_defaults=True)).encode()).hexdigest()


def paying(key_id: str, monthly_limit: MicroUSD | None) -> PayingKey | None:
    """A key for a job to count against; None where it has no limit of its own."""
    return None if monthly_limit is None else PayingKey(id=key_id, monthly_limit=monthly_limit)


def _new_job(
    here: Installation,
    tenant: str,
    request: JobRequest,
    new_id: str,
    digest: str,
    model: BaseModel,
    retry_of: JobRecord | None,
) -> JobRecord:
    if retry_of is not None:
        _check_may_be_retried(retry_of)
    check_may_train(here.settings, tenant)
    check_integrations(request, here.settings, tenant)
    now = here.clock()
    validation, golden = request.validation_file, request.gate.golden_file
    return JobRecord(
        id=new_id,
        tenant=tenant,
        state="validating",
        request=request,
        request_sha256=digest,
        created_at=now,
        updated_at=now,
        deadline=_deadline(request, now),
        retry_of=None if retry_of is None else retry_of.id,
        model=model.reference,
        training_uri=resolve_file(here, tenant, request.training_file, "training_file"),
        validation_uri=resolve_file(here, tenant, validation, "validation_file") if validation else None,
        golden_uri=resolve_file(here, tenant, golden, GOLDEN_FIELD) if golden else None,
        champion=champion_of(here, tenant, request, model.reference),
        cap=request.constraints.budget or here.settings.default_budget,
    )


def _check_champion(job: JobRecord, by_rule: ByRule | None) -> None:
    present = None if job.champion is None else job.champion.name
    if by_rule is not None and by_rule.champion != present:
        raise ChampionChanged(f"it was chosen against {by_rule.champion}, and {present} is champion")


def _check_may_be_retried(job: JobRecord) -> None:
    remedies = {
        "succeeded": "Submit a new job to train once more.",
        "paused": f"Let it go on with POST /v1/fine_tuning/jobs/{job.id}/resume, or cancel it first.",
    }
    if job.state not in ("failed", "cancelled"):
        raise Conflict(
            f"Job {job.id} is {job.state}, so it cannot be retried.",
            code="wrong_state",
            param="fine_tuning_job_id",
            remedy=remedies.get(job.state, "Cancel it first, or wait for its end."),
        )
    if job.open:
        raise Conflict(
            f"Job {job.id} is {job.state}, but its last training job has not ended yet.",
            code="training_job_lives",
            param="fine_tuning_job_id",
            remedy="Try again in a few minutes: it is being stopped.",
        )


def _deadline(request: JobRequest, now: Timestamp) -> Timestamp | None:
    hours = request.constraints.finish_within_hours
    return None if hours is None else now + hours * 3600


def _prepared_in_request(here: Installation, job: JobRecord, model: BaseModel) -> Prepared | None:
    """None where the files are too large to be checked while the caller waits."""
    if size_of(here, job.training_uri, job.validation_uri, job.golden_uri) > IN_REQUEST_BYTES:
        return None
    return _prepare(here, job, model, sample_characters=IN_REQUEST_CHARACTERS)


def _prepare(
    here: Installation,
    job: JobRecord,
    model: BaseModel,
    *,
    preview: bool = False,
    sample_characters: int = SAMPLE_CHARACTERS,
) -> Prepared:
    start = started(here, job)
    files = check_files(
        here,
        start.request,
        model=model,
        training_uri=job.training_uri,
        validation_uri=job.validation_uri,
        golden_uri=job.golden_uri,
        preview=preview,
        sample_characters=sample_characters,
    )

    def plan_of(request: JobRequest, done: Done) -> Prepared:
        return make_plan(here, job, request, files, model=model, done=done)

    earlier = here.store.get_job(job.tenant, job.retry_of) if job.retry_of is not None else None
    if earlier is None:
        prepared = plan_of(start.request, NOTHING_DONE)
    else:
        prepared = prepare_retry(here, start.request, earlier, files, plan_of)
    prepared = prepared.with_(settings=(*start.settings, *prepared.settings))
    if files.quality is None:
        return prepared
    keep_quality(here, job, files.quality)
    return prepared.with_(leaked=files.quality.leaked)


def _record(here: Installation, job: JobRecord, prepared: Prepared | None, full_line: str = "") -> JobRecord:
    decision = _first_decision(here, job, prepared, full_line)
    try:
        limit, room = here.settings.monthly_limit, places(here, decision)
        entries = here.store.create_job(decision, limit=limit, places=room)
    except VersionConflict:
        return _recorded_meanwhile(here, job)
    except LineFull as full:
        return _record(here, job, prepared, full.line)
    except LimitReached as reached:
        raise RequestRefused(
            limit_message(reached),
            code="monthly_limit_reached",
            param="constraints.budget_usd",
            remedy="Give a lower constraints.budget_usd, or have the limit raised.",
        ) from None
    know_job(decision.job)
    here.metrics.send(measure_decision(None, decision))
    logger.info("submitted, now %s", decision.job.state)
    queue_commands(here, entries)
    return decision.job


def _first_decision(here: Installation, job: JobRecord, prepared: Prepared | None, full_line: str) -> Decision:
    if prepared is None:
        return open_job(job, here.clock())
    decision = open_prepared(job, prepared, here.clock(), full_line=full_line)
    if decision.job.error is not None:
        raise _refusal(decision.job.error)
    return decision


def _recorded_meanwhile(here: Installation, job: JobRecord) -> JobRecord:
    """The same idempotency key came through another door at the same time and was first."""
    first = here.store.get_job(job.tenant, job.id)
    if first is None:
        raise Conflict(f"Job {job.id} was recorded and is gone.", code="contention", remedy="Submit again.")
    return _same_request(first, job.request, job.retry_of)


def _same_request(earlier: JobRecord, request: JobRequest, retry_of: str | None) -> JobRecord:
    """Not by a hash: that of an earlier version knew nothing of the fields that there are now, with their defaults."""
    if (earlier.request, earlier.retry_of) != (request, retry_of):
        raise Conflict(
            f"This Idempotency-Key made job {earlier.id} from another body.",
            code="idempotency_key_reused",
            param="Idempotency-Key",
            remedy="Use a new key for a new request.",
        )
    return earlier


def _refusal(error: JobError) -> RequestRefused:
    return RequestRefused(error.message, code=error.code, param=error.param, remedy=error.remedy)


def _refused(error: SpotuneError) -> Refused:
    reports = error.reports if isinstance(error, FilesRefused) else {}
    return Refused(
        error=JobError(code=error.code, message=str(error), param=error.param, remedy=error.remedy),
        **{name: reports[field] for name, field in _REPORTED.items() if field in reports},
    )
