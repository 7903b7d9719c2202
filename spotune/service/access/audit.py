"""The audit log: each call that may change something, written down before it is carried out and again with its end.

So nothing is done that is not on record: where the first record cannot be written, the call is refused. A process that
is killed between the two leaves a record without a status, which says that something may have been done. The end also
goes to the function's log, which no role of ours can change; where the table does not take it at once, it is there
alone, and the call is answered: what is done is done.
"""

from __future__ import annotations

import logging
import secrets

from spotune.contracts.audit import OPERATOR, AuditRecord
from spotune.contracts.base import MICRO
from spotune.contracts.errors import Unavailable
from spotune.contracts.identity import ApiKey
from spotune.contracts.measures import Measurement
from spotune.service.access.keys import valid_tenant
from spotune.service.installation import Installation
from spotune.store.page import Page

LONGEST = 300
"""Characters of an action or a target: a path may be as long as a caller likes."""

logger = logging.getLogger(__name__)


def begin(here: Installation, key: ApiKey, action: str, *, request_id: str, address: str | None = None) -> AuditRecord:
    """Write down what a key's call is about to do.

    Raises:
        Unavailable: the store does not answer; nothing is to be done then.
    """
    return _begin(here, key.tenant, action, request_id, actor=key.id, actor_name=key.name, **_known(key, address))


def begin_by_operator(here: Installation, tenant: str, action: str, *, request_id: str) -> AuditRecord:
    """Write down what the operator is about to do to a tenant.

    Raises:
        RequestRefused: no tenant can be called so.
        Unavailable: the store does not answer; nothing is to be done then.
    """
    return _begin(here, valid_tenant(tenant), action, request_id, actor=OPERATOR, actor_name=OPERATOR)


def end(
    here: Installation, record: AuditRecord, status: int, *, code: str | None = None, target: object = None
) -> None:
    """Write down how it ended; where the store does not take that at once, the log alone has it."""
    named = None if target is None else _printable(str(target))
    ended = record.with_(status=status, code=code, target=named)
    logger.info("audit: %s", ended.action, extra={"audit": ended.model_dump(mode="json", exclude_none=True)})
    try:
        here.store.end_audit(ended)
    except Unavailable as error:
        logger.error("the end of %s is in this log alone: %s", record.id, error)
        here.metrics.send([Measurement("AuditEndsLost", 1)])


def list_records(here: Installation, tenant: str, *, after: str | None, limit: int) -> Page[AuditRecord]:
    """A page of the tenant's audit log, newest first.

    Raises:
        RequestRefused: the tenant has no record `after`.
    """
    return here.store.list_audit(tenant, after=after, limit=limit)


def _known(key: ApiKey, address: str | None) -> dict[str, str | None]:
    return {"principal": key.principal, "address": address}


def _begin(here: Installation, tenant: str, action: str, request_id: str, **who: str | None) -> AuditRecord:
    now = here.clock()
    begun = AuditRecord.model_validate(
        {
            "id": f"audit-{round(now * MICRO):016d}-{secrets.token_hex(4)}",
            "tenant": tenant,
            "at": now,
            "action": _printable(action),
            "request_id": request_id,
            **who,
        }
    )
    here.store.begin_audit(begun)
    return begun


def _printable(text: str) -> str:
    """Cut off, and without what no terminal should print."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:LONGEST])
