"""Who asks."""

from __future__ import annotations

import hashlib
import secrets
from typing import Annotated, Literal

from pydantic import Field

from spotune.contracts.base import MICRO, Contract, MicroUSD, Timestamp

Scope = Literal["read", "submit", "admin"]
"""What a key may do: look; submit and change jobs and files; make and revoke keys. `admin` may do all of it."""

EVERY_SCOPE: tuple[Scope, ...] = ("read", "submit", "admin")

KEY_PREFIX = "sk-spotune-"
"""What a key in clear begins with."""

MOST_REQUESTS_PER_MINUTE = 60_000
"""That a key can be given: what one item of the store can count, 1,000 a second."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
RequestsPerMinute = Annotated[int, Field(ge=1, le=MOST_REQUESTS_PER_MINUTE)]


class ApiKey(Contract):
    """A key as it is stored: by its SHA-256, never in clear. Or a principal that API Gateway has authenticated."""

    sha256: str
    tenant: str
    name: str
    created_at: Timestamp
    scopes: tuple[Scope, ...] = EVERY_SCOPE
    revoked_at: Timestamp | None = None
    monthly_limit: MicroUSD | None = None
    """What jobs submitted with it may spend in a calendar month (UTC), within the tenant's limit; None: no less."""
    requests_per_minute: RequestsPerMinute | None = None
    """None for what the installation allows."""
    principal: str | None = None
    """Who it is, where API Gateway says so: an IAM role or user, or `<issuer>#<subject>`. None for a bearer key."""

    @property
    def id(self) -> str:
        """By which a person names it; it opens nothing."""
        return key_id(self.sha256)

    def allows(self, scope: Scope) -> bool:
        """True where the key may do this."""
        return scope in self.scopes or "admin" in self.scopes


class MonthlyLimit(Contract):
    """What jobs submitted by the one who is asked for may spend in a calendar month (UTC)."""

    monthly_limit_usd: Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)] | None = None
    """None for what the tenant may."""

    @property
    def monthly_limit(self) -> MicroUSD | None:
        """In micro-dollars."""
        return None if self.monthly_limit_usd is None else round(self.monthly_limit_usd * MICRO)


class KeyOrder(MonthlyLimit):
    """What the keys function is asked for: a key of a tenant, or that a principal may ask for one."""

    tenant: str
    name: str = "first"
    principal: str | None = None
    """ARN of an IAM role or user, or `<issuer>#<subject>`."""
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)] | None = None
    """None for all of them; a principal's have to be named."""
    requests_per_minute: RequestsPerMinute | None = None
    sha256: Sha256 | None = None
    """Of a key in clear that whoever asks has made: asked again, it is the same key. None: the function makes one."""
    instead_of: tuple[Sha256, ...] = ()
    """Of keys that nobody has seen: they are revoked, whether or not they came to be."""


def clear_key() -> str:
    """A new key in clear, which nobody can guess."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def key_id(sha256: str) -> str:
    """What a person calls a key by; it opens nothing."""
    return f"key-{sha256[:20]}"


def key_hash(clear: str) -> str:
    """What is kept of a key: its SHA-256, in hexadecimal digits."""
    return hashlib.sha256(clear.encode()).hexdigest()


class TenantLedger(Contract):
    """The money of a tenant, or of one of its keys, in one month (`YYYY-MM`)."""

    tenant: str
    month: str
    key: str = ""
    """The key's id; empty for the whole tenant."""
    limit: MicroUSD
    reserved: MicroUSD = 0
    billed: MicroUSD = 0
