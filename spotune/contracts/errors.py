"""The exceptions that a person can meet. Each says what was wrong, where, and what to do.

`SpotuneError.body()` is the API's error object: `{"error": {"message", "type", "param", "code"}}`.
Codes are stable and listed in docs/errors.md.
"""

from __future__ import annotations

from typing import ClassVar


class SpotuneError(Exception):
    """Root of the tree.

    Args:
        message: what was wrong and where, in one sentence.
        code: stable snake_case identifier of the rule that refused.
        param: the request's field, dotted (`constraints.budget_usd`), if one is to blame.
        remedy: what to do about it; appended to the message that a person reads.
        details: further machine-readable facts (a fault list, the cheapest plan).
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"

    def __init__(
        self,
        message: str,
        *,
        code: str,
        param: str | None = None,
        remedy: str = "",
        details: dict[str, object] | None = None,
    ) -> None:
        super().__init__(f"{message} {remedy}".strip())
        self.code = code
        self.param = param
        self.remedy = remedy
        self.details = details or {}

    def body(self) -> dict[str, dict[str, object]]:
        """The API's error object; `details` only where there are any."""
        error: dict[str, object] = {"message": str(self), "type": self.type, "param": self.param, "code": self.code}
        if self.details:
            error["details"] = self.details
        return {"error": error}


class RequestRefused(SpotuneError):
    """The request itself cannot be carried out as it stands (400)."""

    status = 400
    type = "invalid_request_error"


class NotAuthenticated(SpotuneError):
    """No key, or one that opens nothing (401)."""

    status = 401
    type = "authentication_error"


class NotAllowed(SpotuneError):
    """A key that is known and may not do this (403)."""

    status = 403
    type = "permission_error"


class NotFound(SpotuneError):
    """No such thing, or not this tenant's: the two look the same (404)."""

    status = 404
    type = "invalid_request_error"


class Conflict(SpotuneError):
    """The thing is in a state that does not allow this, or a key was used for another body (409)."""

    status = 409
    type = "conflict_error"


class TooLarge(SpotuneError):
    """The body is larger than this door takes (413)."""

    status = 413
    type = "invalid_request_error"


class TooManyRequests(SpotuneError):
    """The key has made its requests of this minute; nothing was done (429).

    Args:
        retry_after: seconds after which the same call is taken. The others as for every error.
    """

    status = 429
    type = "rate_limit_error"

    def __init__(
        self,
        message: str,
        *,
        code: str,
        retry_after: int,
        param: str | None = None,
        remedy: str = "",
        details: dict[str, object] | None = None,
    ) -> None:
        super().__init__(message, code=code, param=param, remedy=remedy, details=details)
        self.retry_after = retry_after


class Unavailable(SpotuneError):
    """Something we depend on does not answer; the same call may work later (503)."""

    status = 503
    type = "service_unavailable_error"


class DatasetRefused(RequestRefused):
    """The dataset has faults; `details["reports"][param]["faults"]` lists them with line, field, rule and remedy."""


class PlanRefused(RequestRefused):
    """No candidate meets the constraints; `details` has the cheapest or fastest that would, and the rejections."""


class VersionConflict(Exception):
    """The record changed since it was read. Load it again and decide again; never shown to a person."""
