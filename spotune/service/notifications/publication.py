"""What the lifecycle decided to tell leaves here, as one delivery for each that wants it.

A delivery is one message of its own queue, so that each destination is tried by itself and none waits for another. A
process killed while it sends them leaves the command in the outbox, and the next delivery of it sends all again: under
the same event ids, by which receivers drop what they have.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import cast

from spotune.contracts.base import dollars
from spotune.contracts.commands import Notify
from spotune.contracts.identity import TenantLedger
from spotune.contracts.job import JobRecord, LogEvent
from spotune.contracts.money import warning_level
from spotune.contracts.notifications import (
    Delivery,
    Destination,
    EventType,
    OutwardEvent,
    ToTopic,
    ToWebhook,
    WarningLevel,
    job_event_id,
    month_event_id,
    quarantine_event_id,
    refusal_event_id,
)
from spotune.contracts.rules import Arrival, Retraining
from spotune.service.installation import Installation

LEVELS: tuple[WarningLevel, ...] = (50, 80, 100)

logger = logging.getLogger(__name__)


def notify(here: Installation, job: JobRecord, command: Notify) -> None:
    """Send what a line of the job's log tells.

    Raises:
        Unavailable, AwsRefused: not all of it was sent; the command stays and is run again.
    """
    lines = here.store.list_log(job.tenant, job.id, after=command.sequence + 1, limit=1).items
    if not lines:
        raise ValueError(f"{job.id} has no line {command.sequence} in its log")
    event = OutwardEvent(
        id=job_event_id(job.id, command.sequence, command.type),
        created_at=int(lines[0].created_at),
        type=command.type,
        data=_data_of(job, command.type, lines[0]),
    )
    send_event(here, job.tenant, event)


def warn_of_month(here: Installation, job: JobRecord, month: str) -> None:
    """Send a warning for each level that the job's tenant, or the key that pays for it, has newly passed in this month.

    Told first and remembered then: a process killed in between tells it again, and never not at all.

    Raises:
        Unavailable, AwsRefused: as `notify`.
    """
    _warn(here, here.store.ledger(job.tenant, month, limit=here.settings.monthly_limit))
    if job.key is not None:
        _warn(here, here.store.ledger(job.tenant, month, limit=job.key.monthly_limit, key=job.key.id))


def tell_of_quarantine(here: Installation, arrival: Arrival, reason: str, report_uri: str) -> None:
    """Send that a file which landed for a rule is not trained on.

    Raises:
        Unavailable, AwsRefused: as `notify`.
    """
    data: dict[str, object] = {
        "id": arrival.rule_id,
        "tenant": arrival.tenant,
        "file": arrival.uri,
        "version_id": arrival.version_id,
        "message": reason,
        "report": report_uri,
    }
    event_id = quarantine_event_id(arrival.rule_id, arrival.uri, arrival.version_id)
    event = OutwardEvent(id=event_id, created_at=int(arrival.arrived_at), type="rule.file_quarantined", data=data)
    send_event(here, arrival.tenant, event)


def tell_of_refusal(here: Installation, retraining: Retraining, reason: str) -> None:
    """Send that a retraining ends without a job, of which nobody would hear otherwise.

    Raises:
        Unavailable, AwsRefused: as `notify`.
    """
    data: dict[str, object] = {
        "id": retraining.rule_id,
        "tenant": retraining.tenant,
        "retraining": retraining.number,
        "message": reason,
    }
    event_id = refusal_event_id(retraining.rule_id, retraining.number)
    at = int(retraining.updated_at)
    event = OutwardEvent(id=event_id, created_at=at, type="rule.retraining_refused", data=data)
    send_event(here, retraining.tenant, event)


def _warn(here: Installation, ledger: TenantLedger) -> None:
    tenant, month, key = ledger.tenant, ledger.month, ledger.key
    reached, told = warning_level(ledger.billed, ledger.limit), here.store.told_level(tenant, month, key)
    whose = f" of key {key}" if key else ""
    for level in (one for one in LEVELS if told < one <= reached):
        words = f"{dollars(ledger.billed)} of the {dollars(ledger.limit)}{whose} for {month} are billed"
        figures: dict[str, object] = {"reached": level, "billed": ledger.billed, "limit": ledger.limit}
        data = {"id": month, "tenant": tenant, "scope": "month", "month": month, **figures}
        data |= {"message": f"{words}: {level} % or more."} | ({"key": key} if key else {})
        event_id = month_event_id(tenant, month, level, key)
        send_event(
            here, tenant, OutwardEvent(id=event_id, created_at=int(here.clock()), type="budget.warning", data=data)
        )
        here.store.note_told_level(tenant, month, level, key)


def _data_of(job: JobRecord, kind: EventType, line: LogEvent) -> dict[str, object]:
    """OpenAI's `id`, and beside it what saves the receiver a call. Nothing that changes between two tries."""
    data: dict[str, object] = {"id": job.id, "tenant": job.tenant, "message": line.message}
    if kind == "budget.warning":
        return {**data, "scope": "job", **line.data}
    data["state"] = kind.rpartition(".")[2]
    if job.request.metadata:
        data["metadata"] = dict(job.request.metadata)
    if kind == "fine_tuning.job.succeeded":
        data |= {"fine_tuned_model": job.fine_tuned_model, "gate_verdict": job.gate_verdict}
        data["verdict"] = job.verdict and job.verdict.model_dump(mode="json")
    if kind == "fine_tuning.job.failed" and job.error is not None:
        data["error"] = job.error.model_dump(include={"code", "message", "param", "remedy"})
    return data


def send_event(here: Installation, tenant: str, event: OutwardEvent) -> None:
    """Put an event on its way to each destination that wants it.

    Raises:
        Unavailable, AwsRefused: not all of it was sent.
    """
    body = event.model_dump_json()
    for destination in _destinations(here, tenant, cast(EventType, event.type)):
        delivery = Delivery(
            tenant=tenant,
            event_id=event.id,
            type=cast(EventType, event.type),
            destination=destination,
            body=body,
        )
        here.outlets.deliveries.send(delivery.model_dump(mode="json"), tenant)
    logger.info("%s of %s sent on its way as %s", event.type, event.data["id"], event.id)


def _destinations(here: Installation, tenant: str, kind: EventType) -> Iterable[Destination]:
    yield ToTopic()
    for endpoint in here.store.list_webhooks(tenant):
        if endpoint.disabled_at is None and kind in endpoint.event_types:
            yield ToWebhook(endpoint_id=endpoint.id)
