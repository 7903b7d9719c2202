"""API keys: issued once in clear, kept as hashes, read from the Authorization header, revoked at once."""

from __future__ import annotations

import hashlib
import logging
import re
import secrets

from spotune.aws.base import AwsRefused
from spotune.contracts.base import MicroUSD, Timestamp
from spotune.contracts.errors import NotAllowed, NotAuthenticated, NotFound, RequestRefused, Unavailable
from spotune.contracts.identity import EVERY_SCOPE, ApiKey, Scope
from spotune.service.installation import Installation

PREFIX = "sk-spotune-"
NOTE_EVERY = 3600.0
"""Seconds between two notes of a key's use by one process."""
_TENANT = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")

logger = logging.getLogger(__name__)
_noted: dict[str, Timestamp] = {}


def issue_key(here: Installation, tenant: str, name: str, scopes: tuple[Scope, ...] = EVERY_SCOPE) -> str:
    """Make a key for a tenant. The answer is the only place where it stands in clear.

    Raises:
        RequestRefused: the tenant's name could not be part of an S3 key.
    """
    return make_key(here, tenant, name, scopes)[1]


def make_key(
    here: Installation,
    tenant: str,
    name: str,
    scopes: tuple[Scope, ...],
    monthly_limit: MicroUSD | None = None,
) -> tuple[ApiKey, str]:
    """A key's record, and the key in clear.

    Args:
        monthly_limit: what jobs submitted with it may spend in a calendar month; None: what the tenant may.

    Raises:
        RequestRefused: as `issue_key`, or a limit for a key that can make others.
    """
    if monthly_limit is not None and "admin" in scopes:
        raise RequestRefused(
            "A key with the scope admin can make further keys, so that a monthly limit would not bind it.",
            code="limit_of_admin_key",
            param="monthly_limit_usd",
            remedy="Leave the limit out, or give the key the scopes read and submit.",
        )
    if not _TENANT.fullmatch(tenant):
        raise RequestRefused(
            f"Tenant name {tenant!r} is not of the form {_TENANT.pattern}.",
            code="tenant_name_invalid",
            param="tenant",
            remedy="Use lower-case letters, digits and hyphens, 40 at most.",
        )
    clear = PREFIX + secrets.token_urlsafe(32)
    key = ApiKey(
        sha256=_hash(clear),
        tenant=tenant,
        name=name,
        created_at=here.clock(),
        scopes=scopes,
        monthly_limit=monthly_limit,
    )
    here.store.put_key(key)
    return key, clear


def list_keys(here: Installation, tenant: str) -> tuple[tuple[ApiKey, Timestamp | None], ...]:
    """The tenant's keys, newest first, with their last use."""
    return here.store.list_keys(tenant)


def revoke_key(here: Installation, tenant: str, key_id: str) -> tuple[ApiKey, Timestamp | None]:
    """Close a key; from the next request on it opens nothing. A second time changes nothing.

    Raises:
        NotFound: the tenant has no such key.
    """
    key, used = key_of(here, tenant, key_id)
    revoked = key if key.revoked_at is not None else key.with_(revoked_at=here.clock())
    here.store.put_key(revoked)
    return revoked, used


def key_of(here: Installation, tenant: str, key_id: str) -> tuple[ApiKey, Timestamp | None]:
    """One of the tenant's keys, with its last use.

    Raises:
        NotFound: the tenant has no such key.
    """
    for key, used in here.store.list_keys(tenant):
        if key.id == key_id:
            return key, used
    raise NotFound(f"No API key {key_id!r}.", code="key_not_found", remedy="List yours with GET /v1/keys.")


def authenticate(here: Installation, authorization: str | None) -> ApiKey:
    """The key that an `Authorization: Bearer <key>` header holds.

    The look-up is by the key's SHA-256, so its time tells nothing of the key.

    Raises:
        NotAuthenticated: no header, another scheme, or a key that is not known or was revoked.
    """
    scheme, _, key = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not key:
        raise NotAuthenticated(
            "No API key was given.", code="missing_api_key", remedy="Send the header Authorization: Bearer <key>."
        )
    found = here.store.find_key(_hash(key.strip()))
    if found is None or found.revoked_at is not None:
        raise NotAuthenticated(
            "The API key is not known.",
            code="invalid_api_key",
            remedy="Check it for missing characters, or have a new one issued.",
        )
    _note_use(here, found)
    return found


def require(key: ApiKey, scope: Scope) -> None:
    """Let a key pass that may do this.

    Raises:
        NotAllowed: it may not.
    """
    if not key.allows(scope):
        raise NotAllowed(
            f"The API key {key.name!r} has the scopes {', '.join(key.scopes)}; this needs {scope}.",
            code="scope_missing",
            remedy="Use a key with that scope, or have one made with `spotune keys create`.",
        )


def _note_use(here: Installation, key: ApiKey) -> None:
    """What is noted is for people: no request fails for it."""
    now = here.clock()
    if now - _noted.get(key.sha256, 0.0) < NOTE_EVERY:
        return
    _noted[key.sha256] = now
    try:
        here.store.note_use(key, now)
    except (Unavailable, AwsRefused) as error:
        logger.warning("the use of %s was not noted: %s", key.id, error)


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
