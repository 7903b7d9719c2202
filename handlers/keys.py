"""Issues API keys, and maps principals to tenants. Invoked directly, by who may invoke it: IAM is its lock."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from handlers.logs import invocation
from spotune.contracts.errors import RequestRefused, SpotuneError
from spotune.contracts.identity import EVERY_SCOPE, KeyOrder
from spotune.contracts.refusal import refusal
from spotune.service.installation import installation
from spotune.service.keys import issue_key
from spotune.service.principals import map_principal


@invocation("keys")
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry point: a `KeyOrder` in; `{"key"}` out, `{"id", "tenant", "principal"}`, or the error object."""
    try:
        return _made(KeyOrder.model_validate(event))
    except ValidationError as error:
        return refusal(error.errors()).body()
    except SpotuneError as error:
        return error.body()


def _made(order: KeyOrder) -> dict[str, Any]:
    here, limits = installation(), (order.requests_per_minute, order.monthly_limit)
    if order.principal is None:
        scopes = EVERY_SCOPE if order.scopes is None else order.scopes
        return {"key": issue_key(here, order.tenant, order.name, scopes, *limits)}
    if order.scopes is None:
        raise RequestRefused(
            "A principal's scopes are not named.",
            code="missing_field",
            param="scopes",
            remedy="Give scopes: read, submit, admin, or some of them.",
        )
    made = map_principal(here, order.tenant, order.principal, order.name, order.scopes, *limits)
    return {"id": made.id, "tenant": made.tenant, "principal": made.principal}
