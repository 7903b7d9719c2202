"""What follows a change of a model version: people are told, SageMaker's registry shows it, and deleted files go.

Done right after a registration, and by the reconciler for whatever is left: a person's act, an outage, a kill. Each
step is written down before the next one, so that an outage of SageMaker tells nobody twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from spotune.contracts.errors import VersionConflict
from spotune.contracts.models import ModelVersion, StatusChange
from spotune.contracts.notifications import EventType, OutwardEvent, model_event_id
from spotune.service.apart import apart, by_turns
from spotune.service.installation import Installation
from spotune.service.models.files import delete_files
from spotune.service.notifications.publication import send_event

logger = logging.getLogger(__name__)


def settle(here: Installation, version: ModelVersion) -> bool:
    """Tell of what changed, and mirror the version as it is; False where it changed meanwhile: it comes again.

    Raises:
        Unavailable, AwsRefused: a queue, SageMaker or S3 does not answer, or does not let us.
    """
    try:
        version = _with_news_told(here, version)
        if not version.mirrored:
            arn = _mirrored(here, version)
            here.store.replace_version(version, version.with_(mirrored=True, package_arn=arn))
    except VersionConflict:
        logger.info("%s changed while its change was told", version.name)
        return False
    return True


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of the versions that a pass looked at."""

    done: int = 0
    failed: int = 0


def settle_all(here: Installation, more_time: Callable[[], bool]) -> Settled:
    """Settle what is not, as far as time allows. Each pass begins with another one."""
    results: list[bool | None] = []
    for version in by_turns("models", list(here.store.unsettled_versions()), here.clock()):
        if not more_time():
            logger.warning("models are left to the next pass")
            break
        settled = apart(f"model {version.name}", partial(settle, here, version), tenant=version.tenant)
        results.append(settled)
    return Settled(done=results.count(True), failed=results.count(None))


def _with_news_told(here: Installation, version: ModelVersion) -> ModelVersion:
    last = version.history[-1].sequence if version.history else 0
    if version.told == last:
        return version
    for change in version.history:
        kind = _news_of(change)
        if change.sequence > version.told and kind is not None:
            send_event(here, version.tenant, _event(version, change, kind))
    told = version.with_(told=last)
    here.store.replace_version(version, told)
    return told.with_(version=version.version + 1)


def _mirrored(here: Installation, version: ModelVersion) -> str | None:
    if version.status != "deleted":
        return here.model_registry.mirror(version)
    here.model_registry.remove(version)
    delete_files(here, version)
    return None


def _news_of(change: StatusChange) -> EventType | None:
    match change.status:
        case "champion":
            return "model.rolled_back" if change.rollback else "model.promoted"
        case "awaiting_approval":
            return "model.awaiting_approval"
    return None


def _event(version: ModelVersion, change: StatusChange, kind: EventType) -> OutwardEvent:
    data: dict[str, object] = {"id": version.name, "tenant": version.tenant, "group": version.group}
    data |= {"version": version.number, "job_id": version.lineage.job_id, "by": change.by, "message": change.why}
    return OutwardEvent(
        id=model_event_id(version.tenant, version.name, change.sequence, kind),
        created_at=int(change.at),
        type=kind,
        data=data,
    )
