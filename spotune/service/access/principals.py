"""Who API Gateway says is asking: IAM roles and users, and subjects of verified tokens, each mapped to one tenant.

A mapping is a record like a key's, under the hash of the principal's name, so that scopes, limits, revocation and last
use are the same. Only the operator makes one, through the keys function behind IAM's own lock: were it a route of the
API, an admin of one tenant could claim the principals of another. A token's claims name no tenant, for the same
reason: whoever may edit claims at the issuer would choose among our tenants.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping

from spotune.contracts.base import MicroUSD
from spotune.contracts.errors import NotAuthenticated, RequestRefused
from spotune.contracts.identity import ApiKey, Scope
from spotune.service.access.keys import binding, clean_name, note_use, valid_tenant
from spotune.service.installation import Installation

MOST_CHARACTERS = 512
"""Of a principal's name: an ARN, or an issuer with a subject of 255."""
_DOMAIN = b"spotune principal\0"
"""Before the name in its hash. No bearer key begins so: `keys.authenticate` hashes none without its own prefix."""

_IAM = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):iam::(?P<account>\d{12}):(?P<kind>role|user)/(?P<path>[!-~]*/)?(?P<name>[\w+=,.@-]+)",
    re.ASCII,
)
_SESSION = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):sts::(?P<account>\d{12}):assumed-role/(?P<name>[\w+=,.@-]+)/[\w+=,.@-]+", re.ASCII
)


def map_principal(
    here: Installation,
    tenant: str,
    principal: str,
    name: str,
    scopes: tuple[Scope, ...],
    requests_per_minute: int | None = None,
    monthly_limit: MicroUSD | None = None,
) -> ApiKey:
    """Let a principal ask for a tenant. A second time replaces the first: another tenant, other scopes, open again.

    Raises:
        RequestRefused: the tenant or the principal is none that could ever ask, or a limit that would not bind.
    """
    known = _iam_principal(principal) or _subject(here, principal)
    if known is None:
        start = principal[:MOST_CHARACTERS]
        raise RequestRefused(
            f"Nobody can come as {start!r}.",
            code="principal_invalid",
            param="principal",
            remedy="Give the ARN of an IAM role or user, or <issuer>#<subject> with the template's JwtIssuer.",
        )
    key = ApiKey(
        sha256=_hash(known),
        tenant=valid_tenant(tenant),
        name=clean_name(name),
        created_at=here.clock(),
        scopes=scopes,
        requests_per_minute=requests_per_minute,
        monthly_limit=binding(monthly_limit, scopes),
        principal=known,
    )
    here.store.put_key(key)
    return key


def authenticate_iam(here: Installation, identity: Mapping[str, object] | None) -> ApiKey:
    """The record of who signed a request, by `requestContext.authorizer.iam`.

    A session of a role is its role: STS leaves out the role's path, and so do we, since names of roles are unique in
    their account without it. Sessions of root users and federated users are nobody.

    Raises:
        NotAuthenticated: no such context, or a principal that is not mapped or was revoked.
    """
    arn = (identity or {}).get("userArn")
    principal = _iam_principal(arn) if isinstance(arn, str) else None
    return _identified(here, principal)


def authenticate_jwt(here: Installation, claims: Mapping[str, object] | None) -> ApiKey:
    """The record of a token's subject, by the claims in `requestContext.authorizer.jwt`. API Gateway has verified them.

    Raises:
        NotAuthenticated: no such context, another issuer, or a subject that is not mapped or was revoked.
    """
    found = claims or {}
    issuer, subject = found.get("iss"), found.get("sub")
    ours = bool(issuer) and issuer == here.settings.jwt_issuer
    return _identified(here, _subject(here, f"{issuer}#{subject}") if ours and isinstance(subject, str) else None)


def _identified(here: Installation, principal: str | None) -> ApiKey:
    if principal is None:
        raise NotAuthenticated(
            "API Gateway names nobody who could be known here.",
            code="identity_missing",
            remedy="Sign requests to /iam/ as an IAM role or user, or send /jwt/ a token of the configured issuer.",
        )
    sha256 = _hash(principal)
    found = here.store.find_key(sha256)
    known = found is not None and hmac.compare_digest(found.sha256, sha256) and found.principal == principal
    if found is None or not known or found.revoked_at is not None:
        raise NotAuthenticated(
            f"No tenant is known for {principal}.",
            code="identity_unknown",
            remedy="Have the operator map it with the keys function.",
        )
    note_use(here, found)
    return found


def _iam_principal(arn: str) -> str | None:
    """A role without its path or session, or a user with its path; None for whoever else."""
    if len(arn) > MOST_CHARACTERS:
        return None
    if session := _SESSION.fullmatch(arn):
        return f"arn:{session['partition']}:iam::{session['account']}:role/{session['name']}"
    found = _IAM.fullmatch(arn)
    if found is None or found["kind"] == "user":
        return None if found is None else arn
    return f"arn:{found['partition']}:iam::{found['account']}:role/{found['name']}"


def _subject(here: Installation, principal: str) -> str | None:
    """The principal, where it is a subject of the issuer whose tokens are taken."""
    issuer, _, subject = principal.partition("#")
    ours = bool(issuer) and issuer == here.settings.jwt_issuer
    return principal if ours and subject and len(principal) <= MOST_CHARACTERS and principal.isprintable() else None


def _hash(principal: str) -> str:
    return hashlib.sha256(_DOMAIN + principal.encode()).hexdigest()
