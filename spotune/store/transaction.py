"""Calls to DynamoDB: which failures are worth another try, and the one transaction that carries a change.

Every try of one change sends the same token, so DynamoDB applies it once even where an answer is lost (for ten minutes
after the first). The first item keeps the token as `writer`: a condition that fails on our own write is success.
"""

from __future__ import annotations

import logging
import secrets
import uuid
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from botocore.exceptions import ClientError, ConnectionError, HTTPClientError

from spotune.contracts.errors import Unavailable, VersionConflict
from spotune.store.counters import Write
from spotune.store.items import Item

TRIES = 10
FIRST_PAUSE_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 1.0
PATIENCE_SECONDS = 15.0
"""No further try after so long: the client has its own tries and timeouts within each of ours."""

_BUSY = frozenset(
    {
        "InternalServerError",
        "ProvisionedThroughputExceeded",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "ThrottlingError",
        "ThrottlingException",
        "TransactionConflict",
        "TransactionConflictException",
        "TransactionInProgressException",
    }
)
"""Codes of errors, and of cancellation reasons, that another try may not meet."""

_OURS = frozenset({"SerializationException", "TransactionCanceledException", "ValidationException"})
"""Codes of requests that are wrong in themselves: a fault of the code, and no state of the table."""

_FAILED = "ConditionalCheckFailed"

logger = logging.getLogger(__name__)

_RANDOM = secrets.SystemRandom()


class ConditionFailed(Exception):
    """The condition of a single write did not hold; nothing was written."""


def call(operation: Callable[..., dict[str, Any]], **arguments: object) -> dict[str, Any]:
    """Call one of the client's operations.

    Raises:
        ConditionFailed: its condition did not hold.
        Unavailable: DynamoDB does not answer, is too busy even for the client's retries, or lets nobody in: the table
            is not there, or not for this role.
    """
    try:
        return operation(**arguments)
    except ClientError as error:
        if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
            raise ConditionFailed from error
        raise _translated(error) from error
    except (HTTPClientError, ConnectionError) as error:
        raise _unavailable(error) from error


class Transaction:
    """Writes that happen together or not at all.

    Args:
        table: the table's name.
        writes: each with its refusal; the first whose condition does not hold is told. The first one's item keeps
            `token` as `writer`.
        token: of this change alone; every try sends it.
    """

    def __init__(self, table: str, writes: Sequence[Write], token: str) -> None:
        self._table = table
        self._writes = tuple(writes)
        self._token = token

    def run(self, client: Any, sleep: Callable[[float], None]) -> None:
        """Write it, trying again while the table is busy.

        Raises:
            VersionConflict, LimitReached, LedgerImbalance, LineFull: a condition failed; nothing was written.
            Unavailable: the last try was busy or not answered, and may have been written; or the table lets nobody in.
        """
        request = [_in_table(write.item, self._table) for write in self._writes]
        give_up_at = monotonic() + PATIENCE_SECONDS
        for number_of_try in range(1, TRIES + 1):
            try:
                client.transact_write_items(TransactItems=request, ClientRequestToken=self._token)
                return
            except ClientError as error:
                if self._answers(error):
                    return
                failure: Exception = error
            except (HTTPClientError, ConnectionError) as error:
                failure = error
            if number_of_try == TRIES or monotonic() > give_up_at:
                break
            sleep(_pause(number_of_try))
        raise _unavailable(failure) from failure

    def _answers(self, error: ClientError) -> bool:
        """True where the error tells that our write happened, False where another try may help."""
        reasons = error.response.get("CancellationReasons", [])
        codes = [reason.get("Code", "None") for reason in reasons]
        if not reasons:
            if not _is_busy(error):
                raise _translated(error) from error
            return False
        if codes[0] == _FAILED and _writer(reasons[0].get("Item")) == self._token:
            return True
        for write, reason in zip(self._writes, reasons, strict=False):
            if reason.get("Code") == _FAILED:
                raise write.refusal(reason.get("Item")) from error
        if not set(codes) <= _BUSY | {"None"}:
            raise error
        return False


def new_token() -> str:
    """A token for one change."""
    return uuid.uuid4().hex


def put(item: Item, name: str, condition: str = "", **more: object) -> Write:
    """Put an item; where the condition does not hold, `name` was changed by another."""
    guarded = {"ConditionExpression": condition} if condition else {}
    return Write({"Put": {"Item": item, **guarded, **more}}, lambda _: VersionConflict(name))


def _in_table(write: dict[str, Any], table: str) -> dict[str, Any]:
    ((kind, arguments),) = write.items()
    shown = {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"} if "ConditionExpression" in arguments else {}
    return {kind: {"TableName": table, **arguments, **shown}}


def _writer(item: Item | None) -> str | None:
    return item["writer"]["S"] if item and "writer" in item else None


def _is_busy(error: ClientError) -> bool:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return error.response["Error"]["Code"] in _BUSY or status >= 500


def _translated(error: ClientError) -> Exception:
    """What a caller is told of an error that is no failed condition."""
    if _is_busy(error):
        return _unavailable(error)
    return error if error.response["Error"]["Code"] in _OURS else _closed(error)


def _pause(number_of_try: int) -> float:
    """Exponential backoff with full jitter, in seconds."""
    return _RANDOM.uniform(0, min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**number_of_try))


def _unavailable(error: Exception) -> Unavailable:
    return Unavailable(
        f"the job table does not answer ({type(error).__name__}: {error}).",
        code="store_unavailable",
        remedy="Try again in a moment.",
    )


def _closed(error: ClientError) -> Unavailable:
    """AWS's own words name roles and tables: they are for the log, and for no tenant."""
    logger.error("the job table lets nobody in: %s", error)
    return Unavailable(
        f"the job table lets nobody in ({error.response['Error']['Code']}).",
        code="store_closed",
        remedy="Tell whoever runs this installation; the function's log says more.",
    )
