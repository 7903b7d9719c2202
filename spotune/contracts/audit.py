"""The audit log: who changed what, and when."""

from __future__ import annotations

from typing import Literal

from spotune.contracts.base import Contract, Timestamp

OPERATOR = "operator"
"""Who invoked the keys function: IAM's lock, and CloudTrail's record of who it was."""


class AuditRecord(Contract):
    """A call that may change something. Nothing of its body is in it, nor of its answer but an id and a code.

    It is written before the call is carried out, and again with its end.
    """

    id: str
    """Sorts by time."""
    tenant: str
    at: Timestamp
    actor: str
    """The id of the key or principal, or `operator`."""
    actor_name: str
    principal: str | None = None
    address: str | None = None
    """The caller's, as API Gateway saw it."""
    action: str
    """Method and path, or what the operator asked for."""
    request_id: str
    """API Gateway's, or of the function's invocation: the log lines and the access log have it too."""
    status: int | None = None
    """None where the call never came to its end: what it did is not known from here."""
    code: str | None = None
    """Of the error, where it was refused or failed."""
    target: str | None = None
    """The id of what was made or changed, as the answer names it."""

    @property
    def begun(self) -> AuditRecord:
        """As it was before its end was known."""
        return self.with_(status=None, code=None, target=None)


class AuditObject(Contract):
    """A line of the audit log, as the API shows it."""

    id: str
    object: Literal["audit_record"] = "audit_record"
    created_at: int
    actor: str
    actor_name: str
    principal: str | None
    address: str | None
    action: str
    target: str | None
    status: int | None
    code: str | None
    request_id: str
