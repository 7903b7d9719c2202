"""Rules, arrivals and retrainings as the API shows them."""

from __future__ import annotations

from spotune.contracts.base import Timestamp
from spotune.contracts.money import month_of
from spotune.contracts.request import Integration, JobTemplate
from spotune.contracts.rule_objects import ArrivalObject, PendingData, RetrainingObject, RuleMoney, RuleObject
from spotune.contracts.rules import Arrival, Retraining, RuleRecord
from spotune.retraining.due import spent_in


def rule_object(rule: RuleRecord, now: Timestamp) -> RuleObject:
    """A rule without the names of secrets."""
    request, month = rule.request, month_of(now)
    return RuleObject(
        **dict(request.with_(job=_without_secrets(request.job))),
        id=rule.id,
        created_at=int(rule.created_at),
        updated_at=int(rule.updated_at),
        model_group=request.group,
        pending=PendingData(
            rows=rule.pending_rows, bytes=rule.pending_bytes, last_arrival_at=_whole(rule.last_arrival_at)
        ),
        retrainings=rule.retrainings,
        live=rule.live,
        waiting_for=rule.waiting_for,
        money=RuleMoney(month=month, spent=spent_in(rule, month), limit=request.monthly_budget),
        evaluation_set=rule.frozen,
    )


def arrival_object(arrival: Arrival) -> ArrivalObject:
    """One object version."""
    return ArrivalObject(
        id=f"{arrival.uri}#{arrival.version_id}",
        rule=arrival.rule_id,
        uri=arrival.uri,
        version_id=arrival.version_id,
        bytes=arrival.bytes,
        arrived_at=int(arrival.arrived_at),
        state=arrival.state,
        sequence=arrival.sequence,
        rows=arrival.rows,
        sha256=arrival.sha256,
        report_uri=arrival.report_uri,
        reason=arrival.reason,
    )


def retraining_object(retraining: Retraining) -> RetrainingObject:
    """One firing of a rule."""
    return RetrainingObject(
        id=f"{retraining.rule_id}/{retraining.number}",
        rule=retraining.rule_id,
        number=retraining.number,
        state=retraining.state,
        cause=retraining.cause,
        dry_run=retraining.request.dry_run,
        created_at=int(retraining.created_at),
        ended_at=_whole(retraining.ended_at),
        after=retraining.after,
        through=retraining.through,
        rows=retraining.rows,
        manifest_uri=retraining.manifest_uri,
        job_id=retraining.job_id,
        decision=retraining.decision,
        released=retraining.released,
        cap=retraining.cap,
        billed=retraining.billed,
        reason=retraining.reason,
    )


def _without_secrets(job: JobTemplate) -> JobTemplate:
    if job.integrations is None:
        return job
    return job.with_(integrations=tuple(map(_without_secret, job.integrations)))


def _without_secret(integration: Integration) -> Integration:
    settings = {name: getattr(integration, name) for name in ("wandb", "mlflow")}
    return integration.with_(**{name: one and one.with_(secret=None) for name, one in settings.items()})


def _whole(at: Timestamp | None) -> int | None:
    return None if at is None else int(at)
