"""Who asks."""

from __future__ import annotations

from typing import Literal

from spotune.contracts.base import Contract, MicroUSD, Timestamp

Scope = Literal["read", "submit", "admin"]
"""What a key may do: look; submit and change jobs and files; make and revoke keys. `admin` may do all of it."""

EVERY_SCOPE: tuple[Scope, ...] = ("read", "submit", "admin")


class ApiKey(Contract):
    """A key as it is stored: by its SHA-256, never in clear."""

    sha256: str
    tenant: str
    name: str
    created_at: Timestamp
    scopes: tuple[Scope, ...] = EVERY_SCOPE
    revoked_at: Timestamp | None = None
    monthly_limit: MicroUSD | None = None
    """What jobs submitted with it may spend in a calendar month (UTC), within the tenant's limit; None: no less."""

    @property
    def id(self) -> str:
        """By which a person names it; it opens nothing."""
        return f"key-{self.sha256[:20]}"

    def allows(self, scope: Scope) -> bool:
        """True where the key may do this."""
        return scope in self.scopes or "admin" in self.scopes


class TenantLedger(Contract):
    """The money of a tenant, or of one of its keys, in one month (`YYYY-MM`)."""

    tenant: str
    month: str
    key: str = ""
    """The key's id; empty for the whole tenant."""
    limit: MicroUSD
    reserved: MicroUSD = 0
    billed: MicroUSD = 0
