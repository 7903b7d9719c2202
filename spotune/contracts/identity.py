"""Who asks."""

from __future__ import annotations

from spotune.contracts.base import Contract, MicroUSD, Timestamp


class ApiKey(Contract):
    """A key as it is stored: by its SHA-256, never in clear."""

    sha256: str
    tenant: str
    name: str
    created_at: Timestamp


class TenantLedger(Contract):
    """One tenant's money in one month (`YYYY-MM`)."""

    tenant: str
    month: str
    limit: MicroUSD
    reserved: MicroUSD = 0
    billed: MicroUSD = 0
