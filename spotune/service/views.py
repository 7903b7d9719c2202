"""Records as the API shows them."""

from __future__ import annotations

from spotune.contracts.api import (
    CheckpointMetrics,
    CheckpointObject,
    DatasetPair,
    ErrorDetail,
    EventObject,
    FileDetails,
    FileObject,
    JobDetails,
    JobObject,
    KeyObject,
    ModelDetails,
    ModelObject,
    Money,
    PlanObject,
    UploadObject,
)
from spotune.contracts.audit import AuditObject, AuditRecord
from spotune.contracts.base import Timestamp
from spotune.contracts.events import Prepared
from spotune.contracts.files import FileRecord, UploadTicket
from spotune.contracts.identity import ApiKey
from spotune.contracts.job import STATUS, JobRecord, LogEvent, ModelReference
from spotune.contracts.models import ModelGroup, ModelVersion
from spotune.contracts.notifications import WebhookEndpoint
from spotune.contracts.registry import ChampionDetails, ModelGroupObject, ModelVersionObject
from spotune.contracts.request import Hyperparameters, JobRequest, MethodChoice
from spotune.contracts.training import Manifest, Progress
from spotune.contracts.webhooks import WebhookDetails, WebhookObject
from spotune.lifecycle import finished_run, on_demand_cost, receipt


def job_object(job: JobRecord, progress: Progress | None = None) -> JobObject:
    """A job in OpenAI's shape, with ours beside it."""
    chosen = _resolved_hyperparameters(job)
    return JobObject(
        id=job.id,
        created_at=int(job.created_at),
        finished_at=None if job.finished_at is None else int(job.finished_at),
        model=job.request.model,
        fine_tuned_model=job.fine_tuned_model,
        organization_id=job.tenant,
        status=STATUS[job.state],
        hyperparameters=chosen,
        method=_resolved_method(job, chosen),
        training_file=job.request.training_file,
        validation_file=job.request.validation_file,
        result_files=(),
        trained_tokens=job.report.tokens_seen if job.report else None,
        error=job.error and ErrorDetail(code=job.error.code, message=job.error.message, param=job.error.param),
        seed=job.config.seed if job.config else job.request.seed or 0,
        estimated_finish=_estimated_finish(job, progress),
        integrations=_integrations(job.request),
        metadata=job.request.metadata,
        spotune=_details(job, progress),
    )


def _integrations(request: JobRequest) -> tuple[dict[str, object], ...] | None:
    """As they were given, without the names of secrets."""
    if request.integrations is None:
        return None
    without = {"wandb": {"secret"}, "mlflow": {"secret"}}
    return tuple(one.model_dump(mode="json", exclude=without, exclude_none=True) for one in request.integrations)


def event_object(event: LogEvent) -> EventObject:
    """One line of a job's log."""
    return EventObject(
        id=f"ftevent-{event.job_id.removeprefix('ftjob-')}-{event.sequence}",
        created_at=int(event.created_at),
        level=event.level,
        message=event.message,
        data=event.data,
    )


def checkpoint_object(job: JobRecord, manifest: Manifest) -> CheckpointObject:
    """One checkpoint."""
    tail = job.id.removeprefix("ftjob-")
    return CheckpointObject(
        id=f"ftckpt-{tail}-{manifest.step}",
        created_at=int(manifest.created_at),
        fine_tuned_model_checkpoint=f"ft:{job.model.name}:{job.request.suffix or ''}:{tail}:ckpt-step-{manifest.step}",
        fine_tuning_job_id=job.id,
        metrics=CheckpointMetrics(step=manifest.step, train_loss=manifest.train_loss, valid_loss=manifest.eval_loss),
        step_number=manifest.step,
    )


def file_object(record: FileRecord) -> FileObject:
    """A file in OpenAI's shape."""
    return FileObject(
        id=record.id,
        bytes=record.bytes,
        created_at=int(record.created_at),
        filename=record.filename,
        purpose=record.purpose,
        status="processed" if record.status == "processed" else "uploaded",
        spotune=FileDetails(uri=record.uri, sha256=record.sha256),
    )


def upload_object(ticket: UploadTicket) -> UploadObject:
    """A multipart upload's ticket."""
    return UploadObject(
        file=file_object(ticket.file), parts=ticket.parts, done=ticket.done, expires_at=int(ticket.expires_at)
    )


def base_model_object(model: ModelReference) -> ModelObject:
    """A base model."""
    details = ModelDetails(kind="base", uri=model.uri, revision=model.revision or None, parameters=model.parameters)
    return ModelObject(id=model.name, created=0, owned_by="spotune", spotune=details)


def tuned_model_object(tuned: ModelVersion | JobRecord) -> ModelObject:
    """A version of a group, or the tuned model of a job that stands alone."""
    return _version_as_model(tuned) if isinstance(tuned, ModelVersion) else _job_as_model(tuned)


def _version_as_model(version: ModelVersion) -> ModelObject:
    return ModelObject(
        id=version.name,
        created=int(version.lineage.trained_at),
        owned_by=version.tenant,
        spotune=ModelDetails(
            kind="tuned",
            uri=version.uri,
            parent=version.lineage.parent or version.lineage.base,
            job_id=version.lineage.job_id,
            group=version.group,
            version=version.number,
            status=version.status,
            champion=version.status == "champion",
        ),
    )


def _job_as_model(job: JobRecord) -> ModelObject:
    return ModelObject(
        id=job.fine_tuned_model or "",
        created=int(job.finished_at or 0),
        owned_by=job.tenant,
        spotune=ModelDetails(kind="tuned", uri=job.output_uri or "", parent=job.model.name, job_id=job.id),
    )


def model_group_object(group: ModelGroup, champion: ModelVersion | None) -> ModelGroupObject:
    """A group, and where its champion's files lie."""
    details = champion and ChampionDetails(version=champion.number, model=champion.name, uri=champion.uri)
    return ModelGroupObject(
        id=group.name,
        created_at=int(group.created_at),
        champion=details,
        versions=group.versions,
        history=group.history,
    )


def model_version_object(version: ModelVersion) -> ModelVersionObject:
    """A version with all that is known of it."""
    return ModelVersionObject(
        id=version.name,
        group=version.group,
        version=version.number,
        status=version.status,
        champion=version.status == "champion",
        created_at=int(version.created_at),
        uri=version.uri,
        files=version.files,
        scores=version.scores,
        comparisons=version.comparisons,
        against_champion=version.against_champion,
        verdict=version.verdict,
        lineage=version.lineage,
        history=version.history,
        package_arn=version.package_arn,
    )


def key_object(key: ApiKey, used_at: Timestamp | None, allowed: int) -> KeyObject:
    """An API key without its secret; `allowed` is its requests a minute."""
    return KeyObject(
        id=key.id,
        name=key.name,
        scopes=key.scopes,
        created_at=int(key.created_at),
        revoked_at=None if key.revoked_at is None else int(key.revoked_at),
        last_used_at=None if used_at is None else int(used_at),
        monthly_limit=key.monthly_limit,
        requests_per_minute=allowed,
        principal=key.principal,
    )


def audit_object(record: AuditRecord) -> AuditObject:
    """A line of the audit log."""
    return AuditObject(created_at=int(record.at), **record.model_dump(exclude={"tenant", "at"}))


def webhook_object(endpoint: WebhookEndpoint) -> WebhookObject:
    """A webhook endpoint without its secret."""
    disabled = None if endpoint.disabled_at is None else int(endpoint.disabled_at)
    return WebhookObject(
        id=endpoint.id,
        created_at=int(endpoint.created_at),
        updated_at=int(endpoint.updated_at),
        name=endpoint.name,
        url=endpoint.url,
        event_types=endpoint.event_types,
        spotune=WebhookDetails(disabled_at=disabled),
    )


def plan_object(prepared: Prepared) -> PlanObject:
    """A plan, and what it was made of."""
    return PlanObject(
        plan=prepared.plan,
        settings=prepared.settings,
        dataset=DatasetPair(training=prepared.training, validation=prepared.validation, golden=prepared.golden),
        config=prepared.config,
        resumption=prepared.resumption,
    )


def _details(job: JobRecord, progress: Progress | None) -> JobDetails:
    return JobDetails(
        state=job.state,
        waiting_for=job.waiting_for,
        tenant=job.tenant,
        retry_of=job.retry_of,
        resumption=job.resumption,
        region=job.region,
        plan=job.plan,
        settings=job.settings,
        attempts=job.attempts,
        money=Money(
            cap=job.cap,
            reserved=job.reserved,
            billed=job.billed,
            on_demand=on_demand_cost(job) or None,
            transfer=job.transfer or 0,
        ),
        progress=progress,
        report=job.report,
        dataset=DatasetPair(training=job.training, validation=job.validation, golden=job.golden),
        receipt=receipt(job),
        run=finished_run(job),
        gate_verdict=job.gate_verdict,
        verdict=job.verdict,
        champion=job.champion,
        retraining=job.retraining,
        output_uri=job.output_uri,
        error=job.error,
    )


def _resolved_hyperparameters(job: JobRecord) -> Hyperparameters:
    asked = job.request.chosen_hyperparameters
    if job.config is None:
        return asked
    return asked.with_(batch_size=job.config.optimization.global_batch_size, n_epochs=job.config.optimization.epochs)


def _resolved_method(job: JobRecord, chosen: Hyperparameters) -> MethodChoice:
    """The request's method, with the hyperparameters in its own place."""
    objective = "supervised" if job.request.method is None else job.request.method.type
    return MethodChoice.model_validate({"type": objective, objective: {"hyperparameters": chosen.model_dump()}})


def _estimated_finish(job: JobRecord, progress: Progress | None) -> int | None:
    if job.terminal or job.plan is None:
        return None
    if progress is not None and progress.eta_seconds is not None:
        return int(progress.updated_at + progress.eta_seconds)
    return int(job.created_at + job.plan.chosen.wall_hours.mid * 3600)
