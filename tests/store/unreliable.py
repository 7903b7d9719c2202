"""A table that fails as told, and what its failures look like."""

from __future__ import annotations

from collections import deque
from typing import Any

from botocore.exceptions import ClientError, ReadTimeoutError


class Unreliable:
    """The client, but for the next calls of one operation, each of which goes wrong as told.

    An exception is raised instead of the call; `(True, exception)` after the call went through.
    """

    def __init__(self, client: Any, operation: str, *faults: Exception | tuple[bool, Exception] | None) -> None:
        self._client = client
        self._operation = operation
        self.faults = deque(faults)
        self.calls: list[dict[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return self._call if name == self._operation else getattr(self._client, name)

    def _call(self, **arguments: Any) -> Any:
        self.calls.append(arguments)
        fault = self.faults.popleft() if self.faults else None
        if isinstance(fault, Exception):
            raise fault
        answer = getattr(self._client, self._operation)(**arguments)
        if fault is not None:
            raise fault[1]
        return answer


TIMEOUT = ReadTimeoutError(endpoint_url="http://table")


def refusal(code: str, *reasons: str, status: int = 400) -> ClientError:
    answer: dict[str, Any] = {
        "Error": {"Code": code, "Message": "said so"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    if reasons:
        answer["CancellationReasons"] = [{"Code": reason} for reason in reasons]
    return ClientError(answer, "TransactWriteItems")


def cancelled(*reasons: str) -> ClientError:
    return refusal("TransactionCanceledException", *reasons)
