"""Issues API keys, and maps principals to tenants. Invoked directly, by who may invoke it: IAM is its lock."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from pydantic import ValidationError

from handlers.logs import invocation
from spotune.contracts.errors import RequestRefused, SpotuneError
from spotune.contracts.identity import EVERY_SCOPE, KeyOrder
from spotune.contracts.refusal import refusal
from spotune.service.access import audit
from spotune.service.access.keys import id_of, issue_key, keep_key
from spotune.service.access.principals import map_principal
from spotune.service.installation import Installation, installation


@invocation("keys")
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry point: a `KeyOrder` in; out comes what was made, or the error object."""
    try:
        return _audited(KeyOrder.model_validate(event), str(getattr(context, "aws_request_id", "")))
    except ValidationError as error:
        return refusal(error.errors()).body()
    except SpotuneError as error:
        return error.body()


def _audited(order: KeyOrder, request_id: str) -> dict[str, Any]:
    """Carry the order out between the two records of it in the tenant's audit log."""
    here = installation()
    action = f"issue key {order.name}" if order.principal is None else f"map principal {order.principal}"
    record = audit.begin_by_operator(here, order.tenant, action, request_id=request_id)
    try:
        made = _made(here, order)
    except SpotuneError as error:
        audit.end(here, record, error.status, code=error.code)
        raise
    audit.end(here, record, HTTPStatus.OK, target=made["id"])
    return made


def _made(here: Installation, order: KeyOrder) -> dict[str, Any]:
    limits = (order.requests_per_minute, order.monthly_limit)
    if order.principal is None:
        scopes = EVERY_SCOPE if order.scopes is None else order.scopes
        for unseen in order.instead_of:
            keep_key(here, unseen, order.tenant, order.name, revoked=True)
        if order.sha256 is not None:
            return {"id": keep_key(here, order.sha256, order.tenant, order.name, scopes, *limits).id}
        clear = issue_key(here, order.tenant, order.name, scopes, *limits)
        return {"id": id_of(clear), "key": clear}
    if order.scopes is None:
        raise RequestRefused(
            "A principal's scopes are not named.",
            code="missing_field",
            param="scopes",
            remedy="Give scopes: read, submit, admin, or some of them.",
        )
    made = map_principal(here, order.tenant, order.principal, order.name, order.scopes, *limits)
    return {"id": made.id, "tenant": made.tenant, "principal": made.principal}
