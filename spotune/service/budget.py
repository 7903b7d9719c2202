"""A tenant's money in a month, and when to warn of it."""

from __future__ import annotations

import re
from typing import Literal

from spotune.contracts.api import BudgetObject
from spotune.contracts.base import dollars
from spotune.contracts.errors import RequestRefused
from spotune.contracts.identity import TenantLedger
from spotune.contracts.money import warning_level
from spotune.service.installation import Installation
from spotune.store.base import month_of

_MONTH = re.compile(r"20\d\d-(0[1-9]|1[0-2])")


def budget(here: Installation, tenant: str, month: str | None) -> BudgetObject:
    """The tenant's ledger of a month, the present one where none is named.

    Raises:
        RequestRefused: `month` is no month.
    """
    month = month or month_of(here.clock())
    if not _MONTH.fullmatch(month):
        raise RequestRefused(
            f"{month!r} is no month.", code="month_invalid", param="month", remedy="Write it as YYYY-MM."
        )
    ledger = here.store.ledger(tenant, month, limit=here.settings.monthly_limit)
    reached = warning_level(ledger.billed, ledger.limit)
    return BudgetObject(
        tenant=tenant,
        month=month,
        limit=ledger.limit,
        billed=ledger.billed,
        reserved=ledger.reserved,
        left=max(ledger.limit - ledger.billed - ledger.reserved, 0),
        reached=reached,
        warning=_warning(ledger, reached),
    )


def _warning(ledger: TenantLedger, reached: Literal[0, 50, 80, 100]) -> str:
    if not reached:
        return ""
    return (
        f"{dollars(ledger.billed)} of the {dollars(ledger.limit)} that {ledger.tenant} may spend in {ledger.month} are "
        f"billed: {reached} % or more."
    )
