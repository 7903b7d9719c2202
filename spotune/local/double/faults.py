"""The errors that the double answers with, as botocore reads them."""

from __future__ import annotations


class ServiceError(Exception):
    """An error of the API: `code` becomes `__type`, and so the name of botocore's exception."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


def invalid(message: str) -> ServiceError:
    """The request breaks a rule."""
    return ServiceError("ValidationException", message)


def in_use(message: str) -> ServiceError:
    """The name was used before."""
    return ServiceError("ResourceInUse", message)


def limit_exceeded(message: str) -> ServiceError:
    """A quota does not allow it."""
    return ServiceError("ResourceLimitExceeded", message)
