"""API keys: issued once in clear, kept as hashes, and read from the Authorization header."""

from __future__ import annotations

import hashlib
import re
import secrets

from spotune.contracts.errors import NotAuthenticated, RequestRefused
from spotune.contracts.identity import ApiKey
from spotune.service.installation import Installation

PREFIX = "sk-spotune-"
_TENANT = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


def issue_key(here: Installation, tenant: str, name: str) -> str:
    """Make a key for a tenant. The answer is the only place where it stands in clear.

    Raises:
        RequestRefused: the tenant's name could not be part of an S3 key.
    """
    if not _TENANT.fullmatch(tenant):
        raise RequestRefused(
            f"Tenant name {tenant!r} is not of the form {_TENANT.pattern}.",
            code="tenant_name_invalid",
            param="tenant",
            remedy="Use lower-case letters, digits and hyphens, 40 at most.",
        )
    key = PREFIX + secrets.token_urlsafe(32)
    here.store.put_key(ApiKey(sha256=_hash(key), tenant=tenant, name=name, created_at=here.clock()))
    return key


def authenticate(here: Installation, authorization: str | None) -> str:
    """The tenant that an `Authorization: Bearer <key>` header opens.

    The look-up is by the key's SHA-256, so its time tells nothing of the key.

    Raises:
        NotAuthenticated: no header, another scheme, or a key that is not known.
    """
    scheme, _, key = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not key:
        raise NotAuthenticated(
            "No API key was given.", code="missing_api_key", remedy="Send the header Authorization: Bearer <key>."
        )
    found = here.store.find_key(_hash(key.strip()))
    if found is None:
        raise NotAuthenticated(
            "The API key is not known.",
            code="invalid_api_key",
            remedy="Check it for missing characters, or have a new one issued.",
        )
    return found.tenant


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
