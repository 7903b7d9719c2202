"""A tenant's money in a month, and when to warn of it."""

from __future__ import annotations

import re
from typing import Literal

from spotune.contracts.api import BudgetObject
from spotune.contracts.base import MicroUSD, dollars
from spotune.contracts.errors import RequestRefused
from spotune.contracts.identity import TenantLedger
from spotune.contracts.money import month_of, warning_level
from spotune.service.access.keys import key_of
from spotune.service.installation import Installation

_MONTH = re.compile(r"20\d\d-(0[1-9]|1[0-2])")


def budget(here: Installation, tenant: str, month: str | None, key_id: str | None = None) -> BudgetObject:
    """The ledger of the tenant, or of one of its keys, for a month, the present one where none is named.

    Raises:
        RequestRefused: `month` is no month, or the key has no limit and so no ledger.
        NotFound: the tenant has no such key.
    """
    month = month or month_of(here.clock())
    if not _MONTH.fullmatch(month):
        raise RequestRefused(
            f"{month!r} is no month.", code="month_invalid", param="month", remedy="Write it as YYYY-MM."
        )
    limit = here.settings.monthly_limit if key_id is None else _limit_of(here, tenant, key_id)
    ledger = here.store.ledger(tenant, month, limit=limit, key=key_id or "")
    reached = warning_level(ledger.billed, ledger.limit)
    return BudgetObject(
        tenant=tenant,
        month=month,
        key=key_id,
        limit=ledger.limit,
        billed=ledger.billed,
        reserved=ledger.reserved,
        left=max(ledger.limit - ledger.billed - ledger.reserved, 0),
        reached=reached,
        warning=_warning(ledger, reached),
    )


def _limit_of(here: Installation, tenant: str, key_id: str) -> MicroUSD:
    limit = key_of(here, tenant, key_id)[0].monthly_limit
    if limit is None:
        raise RequestRefused(
            f"The API key {key_id} has no monthly limit of its own.",
            code="key_without_limit",
            param="key",
            remedy="Leave `key` out for the tenant's budget.",
        )
    return limit


def _warning(ledger: TenantLedger, reached: Literal[0, 50, 80, 100]) -> str:
    if not reached:
        return ""
    whose = ledger.key or ledger.tenant
    return (
        f"{dollars(ledger.billed)} of the {dollars(ledger.limit)} that {whose} may spend in {ledger.month} are "
        f"billed: {reached} % or more."
    )
