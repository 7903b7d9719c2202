"""What a check says: how it stands, in words, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from spotune.contracts.base import Contract
from spotune.deploy.doctor.seen import Unseen

Status = Literal["ok", "warn", "fail", "unknown"]

_WORST_FIRST: tuple[Status, ...] = ("fail", "unknown", "warn", "ok")


class Finding(Contract):
    """One check's result.

    Attributes:
        check: what was looked at; a stable name.
        status: `ok`; `warn`, where jobs run and something is worth doing; `fail`, where they do not run; `unknown`,
            where it could not be looked at.
        says: how it stands.
        remedy: what to do, with the command to run; empty where nothing is to be done.
        details: the same for programs.
    """

    check: str
    status: Status
    says: str
    remedy: str = ""
    details: dict[str, object] = {}


def ok(check: str, says: str, **details: object) -> Finding:
    """Nothing to do."""
    return Finding(check=check, status="ok", says=says, details=details)


def warn(check: str, says: str, remedy: str, **details: object) -> Finding:
    """Jobs run, and something is worth doing."""
    return Finding(check=check, status="warn", says=says, remedy=remedy, details=details)


def fail(check: str, says: str, remedy: str, **details: object) -> Finding:
    """Jobs do not run as it is."""
    return Finding(check=check, status="fail", says=says, remedy=remedy, details=details)


def unknown(check: str, says: str, remedy: str = "") -> Finding:
    """It could not be looked at."""
    return Finding(check=check, status="unknown", says=says, remedy=remedy)


def not_seen(check: str, seen: Unseen, permission: str) -> Finding:
    """A probe got no answer; `permission` is what it takes."""
    remedy = f"Allow {permission} to see it." if seen.denied else ""
    return unknown(check, f"Could not be looked at: {seen.reason}", remedy)


def worst(findings: Iterable[Finding]) -> Status:
    """The status of all of them together; `ok` of none."""
    found = {one.status for one in findings}
    return next((status for status in _WORST_FIRST if status in found), "ok")
