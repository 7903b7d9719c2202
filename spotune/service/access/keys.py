"""API keys: issued once in clear, kept as hashes, read from the Authorization header, revoked at once."""

from __future__ import annotations

import hmac
import logging
import re

from spotune.contracts.api import KeyRequest
from spotune.contracts.base import MicroUSD, Timestamp
from spotune.contracts.errors import Conflict, NotAllowed, NotAuthenticated, NotFound, RequestRefused, Unavailable
from spotune.contracts.identity import EVERY_SCOPE, KEY_PREFIX, ApiKey, Scope, clear_key, key_hash, key_id
from spotune.service.access import rate
from spotune.service.installation import Installation

NOTE_EVERY = 3600.0
"""Seconds between two notes of a key's use by one process."""
MOST_OPEN_KEYS = 100
"""That a tenant may have by the API. Two that are made at the same moment may pass it together."""
MOST_KEYS = 1000
"""That a tenant may have with those that were revoked; the store forgets such a key 90 days later."""
LONGEST_NAME = 64
_TENANT = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_KEY = re.compile(KEY_PREFIX + r"[A-Za-z0-9_-]{20,100}")

logger = logging.getLogger(__name__)
_noted: dict[str, Timestamp] = {}


def issue_key(
    here: Installation,
    tenant: str,
    name: str,
    scopes: tuple[Scope, ...] = EVERY_SCOPE,
    requests_per_minute: int | None = None,
    monthly_limit: MicroUSD | None = None,
) -> str:
    """Make a key for a tenant, as the operator. The answer is the only place where it stands in clear.

    Raises:
        RequestRefused: the tenant's name could not be part of an S3 key, the key's name says nothing, or it has a
            monthly limit and could make further keys.
    """
    clear = clear_key()
    keep_key(here, key_hash(clear), tenant, name, scopes, requests_per_minute, monthly_limit)
    return clear


def keep_key(
    here: Installation,
    sha256: str,
    tenant: str,
    name: str,
    scopes: tuple[Scope, ...] = EVERY_SCOPE,
    requests_per_minute: int | None = None,
    monthly_limit: MicroUSD | None = None,
    *,
    revoked: bool = False,
) -> ApiKey:
    """Keep a key that was made elsewhere, by its hash, in place of what was known of it. A second time it is the same.

    One that was revoked stays so: an order that was on its way when another revoked its key opens nothing.

    Args:
        revoked: it opens nothing, whether or not it was kept before.

    Raises:
        RequestRefused: as `issue_key`.
    """
    key = ApiKey(
        sha256=sha256,
        tenant=valid_tenant(tenant),
        name=clean_name(name),
        created_at=here.clock(),
        scopes=scopes,
        revoked_at=here.clock() if revoked else None,
        requests_per_minute=requests_per_minute,
        monthly_limit=binding(monthly_limit, scopes),
    )
    here.store.put_key(key)
    return key


def make_key(here: Installation, maker: ApiKey, request: KeyRequest) -> tuple[ApiKey, str]:
    """A further key of its maker's tenant: its record, and the key in clear. It may ask no more often than its maker.

    Raises:
        RequestRefused: a rate above the maker's, a monthly limit for a key that can make others, or no real name.
        Conflict: the tenant has too many keys.
    """
    asked, most = request.requests_per_minute, rate.requests_per_minute(here, maker)
    if asked is not None and asked > most:
        raise RequestRefused(
            f"{asked} requests a minute are more than the {most} of the key that asks.",
            code="rate_limit_too_high",
            param="requests_per_minute",
            remedy="Ask for less, or have the operator make the key with the keys function.",
        )
    _require_place(here, maker.tenant)
    allowed = asked or maker.requests_per_minute
    clear = clear_key()
    key = keep_key(here, key_hash(clear), maker.tenant, request.name, request.scopes, allowed, request.monthly_limit)
    return key, clear


def id_of(clear: str) -> str:
    """The id of a key in clear."""
    return key_id(key_hash(clear))


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
    for listed, used in here.store.list_keys(tenant):
        # Read again: lists may lag, and a principal may have been mapped to another tenant since.
        key = here.store.find_key(listed.sha256) if listed.id == key_id else None
        if key is not None and key.tenant == tenant:
            return key, used
    raise NotFound(
        f"No API key {key_id!r}.", code="key_not_found", remedy="List yours with `spotune keys list` or GET /v1/keys."
    )


def authenticate(here: Installation, authorization: str | None) -> ApiKey:
    """The key that an `Authorization: Bearer <key>` header holds.

    No comparison here takes a time that tells of a key. The store is asked for the SHA-256 of what was sent: whoever
    would guess a stored hash's first digits by the time that the look-up takes cannot choose keys whose hashes begin
    so without trying as many as there are, and a hash that was guessed whole opens nothing, since the key before it is
    still wanted. What is found is compared once more, in constant time, in case a store finds something else.

    Raises:
        NotAuthenticated: no header, another scheme, or a key that is not known or was revoked.
    """
    scheme, _, key = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not key:
        raise NotAuthenticated(
            "No API key was given.", code="missing_api_key", remedy="Send the header Authorization: Bearer <key>."
        )
    found = _find(here, key.strip())
    if found is None or found.revoked_at is not None:
        raise NotAuthenticated(
            "The API key is not known.",
            code="invalid_api_key",
            remedy="Check it for missing characters, or have a new one issued.",
        )
    note_use(here, found)
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


def note_use(here: Installation, key: ApiKey) -> None:
    """Remember for people, about once an hour, that a key was used: no request fails for it."""
    now = here.clock()
    if now - _noted.get(key.sha256, 0.0) < NOTE_EVERY:
        return
    _noted[key.sha256] = now
    try:
        here.store.note_use(key, now)
    except Unavailable as error:
        logger.warning("the use of %s was not noted: %s", key.id, error)


def valid_tenant(tenant: str) -> str:
    """The tenant's name.

    Raises:
        RequestRefused: it could not be part of an S3 key.
    """
    if not _TENANT.fullmatch(tenant):
        raise RequestRefused(
            f"Tenant name {tenant!r} is not of the form {_TENANT.pattern}.",
            code="tenant_name_invalid",
            param="tenant",
            remedy="Use lower-case letters, digits and hyphens, 40 at most.",
        )
    return tenant


def clean_name(name: str) -> str:
    """A key's name with single spaces for whatever no terminal should print.

    Raises:
        RequestRefused: nothing is left of it, or too much.
    """
    cleaned = " ".join("".join(letter if letter.isprintable() else " " for letter in name).split())
    if not 0 < len(cleaned) <= LONGEST_NAME:
        start = name[:LONGEST_NAME]
        raise RequestRefused(
            f"A key cannot be called {start!r}.",
            code="key_name_invalid",
            param="name",
            remedy=f"Use 1 to {LONGEST_NAME} characters that can be printed.",
        )
    return cleaned


def binding(monthly_limit: MicroUSD | None, scopes: tuple[Scope, ...]) -> MicroUSD | None:
    """The limit, where it binds who has these scopes.

    Raises:
        RequestRefused: it would not.
    """
    if monthly_limit is not None and "admin" in scopes:
        raise RequestRefused(
            "A key with the scope admin can make further keys, so that a monthly limit would not bind it.",
            code="limit_of_admin_key",
            param="monthly_limit_usd",
            remedy="Leave the limit out, or give the key the scopes read and submit.",
        )
    return monthly_limit


def _require_place(here: Installation, tenant: str) -> None:
    kept = [key for key, _ in here.store.list_keys(tenant)]
    open_keys = sum(key.revoked_at is None for key in kept)
    if open_keys >= MOST_OPEN_KEYS or len(kept) >= MOST_KEYS:
        revoked = len(kept) - open_keys
        raise Conflict(
            f"Your tenant has {open_keys} open and {revoked} revoked keys; it may have {MOST_OPEN_KEYS} open ones, "
            f"{MOST_KEYS} in all.",
            code="too_many_keys",
            remedy="Revoke keys that nobody uses; revoked ones are forgotten after 90 days.",
        )


def _find(here: Installation, clear: str) -> ApiKey | None:
    """What is spelt unlike any key of ours is not looked up: no header is too long, too strange or a principal's."""
    if not _KEY.fullmatch(clear):
        return None
    sha256 = key_hash(clear)
    found = here.store.find_key(sha256)
    return found if found is not None and hmac.compare_digest(found.sha256, sha256) and not found.principal else None
