"""Names of new things."""

from __future__ import annotations

import base64
import hashlib
import secrets


def new_file_id() -> str:
    """A file's id."""
    return "file-" + _letters(secrets.token_bytes(15))


def job_id(stage: str, tenant: str, idempotency_key: str | None) -> str:
    """A job's id: the same for the same tenant and idempotency key, so that one key can make one job only."""
    if idempotency_key is None:
        return "ftjob-" + _letters(secrets.token_bytes(15))
    return "ftjob-" + _hash(stage, tenant, idempotency_key)


def rule_id(stage: str, tenant: str, name: str) -> str:
    """A rule's id: the same for the same tenant and name, so that one name is one rule."""
    return "rule-" + _hash(stage, tenant, "rule", name)


def _hash(*parts: str) -> str:
    return _letters(hashlib.sha256("\0".join(parts).encode()).digest()[:15])


def _letters(raw: bytes) -> str:
    return base64.b32encode(raw).decode().lower()
