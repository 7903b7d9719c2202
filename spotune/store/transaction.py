"""Calls to DynamoDB: which failures are worth another try, and the one transaction that carries a decision.

Every try of one change sends the same token, so DynamoDB applies it once even where an answer is lost (for ten minutes
after the first). The job's item keeps the token as `writer`: a condition that fails on our own write is success.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from botocore.exceptions import ClientError, ConnectionError, HTTPClientError

from spotune.contracts.errors import Unavailable, VersionConflict
from spotune.contracts.job import JobRecord
from spotune.store import items
from spotune.store.counters import Write
from spotune.store.items import Item, number, text
from spotune.store.records import Change

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

_FAILED = "ConditionalCheckFailed"

_RANDOM = secrets.SystemRandom()


class ConditionFailed(Exception):
    """The condition of a single write did not hold; nothing was written."""


def call(operation: Callable[..., dict[str, Any]], **arguments: object) -> dict[str, Any]:
    """Call one of the client's operations.

    Raises:
        ConditionFailed: its condition did not hold.
        Unavailable: DynamoDB does not answer, or is too busy even for the client's retries.
    """
    try:
        return operation(**arguments)
    except ClientError as error:
        if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
            raise ConditionFailed from error
        if _is_busy(error):
            raise _unavailable(error) from error
        raise
    except (HTTPClientError, ConnectionError) as error:
        raise _unavailable(error) from error


class Transaction:
    """One decision's writes: the job first, its log, its commands, its run, ledgers and lines last, all or nothing.

    Args:
        table: the table's name.
        before: the job as it was decided on; None for a new one.
        change: what to write.
        counted: what moves beside the job, each with its refusal; the first that does not hold is told.
    """

    def __init__(self, table: str, before: JobRecord | None, change: Change, counted: Sequence[Write]) -> None:
        self._table = table
        self._before = before
        self._change = change
        self._counted = counted
        self._token = uuid.uuid4().hex

    def run(self, client: Any, sleep: Callable[[float], None]) -> None:
        """Write it, trying again while the table is busy.

        Raises:
            VersionConflict, LimitReached, LedgerImbalance, LineFull: a condition failed; nothing was written.
            Unavailable: the last try was busy or not answered; it may have been written.
        """
        writes = self._writes()
        request = [_in_table(write.item, self._table) for write in writes]
        give_up_at = monotonic() + PATIENCE_SECONDS
        for number_of_try in range(1, TRIES + 1):
            try:
                client.transact_write_items(TransactItems=request, ClientRequestToken=self._token)
                return
            except ClientError as error:
                if self._answers(error, writes):
                    return
                failure: Exception = error
            except (HTTPClientError, ConnectionError) as error:
                failure = error
            if number_of_try == TRIES or monotonic() > give_up_at:
                break
            sleep(_pause(number_of_try))
        raise _unavailable(failure) from failure

    def _writes(self) -> list[Write]:
        tenant = self._change.job.tenant
        new = [items.log_item(event, tenant) for event in self._change.log]
        new += [items.entry_item(entry) for entry in self._change.entries]
        writes = [self._job_write(), *(self._put(item, "attribute_not_exists(pk)") for item in new)]
        if self._change.run is not None:
            # Without a condition: a job that is tried again ends again, and the newest outcome holds.
            writes.append(self._put(items.run_item(self._change.run)))
        return [*writes, *self._counted]

    def _job_write(self) -> Write:
        item = items.job_item(self._change.job, self._token)
        if self._before is None:
            return self._put(item, "attribute_not_exists(pk)")
        values = {":version": number(self._before.version), ":tenant": text(self._before.tenant)}
        return self._put(item, "version = :version AND tenant = :tenant", ExpressionAttributeValues=values)

    def _put(self, item: Item, condition: str = "", **more: object) -> Write:
        guarded = {"ConditionExpression": condition} if condition else {}
        return Write({"Put": {"Item": item, **guarded, **more}}, lambda _: VersionConflict(self._change.job.id))

    def _answers(self, error: ClientError, writes: Sequence[Write]) -> bool:
        """True where the error tells that our write happened, False where another try may help."""
        reasons = error.response.get("CancellationReasons", [])
        codes = [reason.get("Code", "None") for reason in reasons]
        if not reasons:
            if not _is_busy(error):
                raise error
            return False
        if codes[0] == _FAILED and _writer(reasons[0].get("Item")) == self._token:
            return True
        for write, reason in zip(writes, reasons, strict=False):
            if reason.get("Code") == _FAILED:
                raise write.refusal(reason.get("Item")) from error
        if not set(codes) <= _BUSY | {"None"}:
            raise error
        return False


def _in_table(write: dict[str, Any], table: str) -> dict[str, Any]:
    ((kind, arguments),) = write.items()
    shown = {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"} if "ConditionExpression" in arguments else {}
    return {kind: {"TableName": table, **arguments, **shown}}


def _writer(item: Item | None) -> str | None:
    return item["writer"]["S"] if item and "writer" in item else None


def _is_busy(error: ClientError) -> bool:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return error.response["Error"]["Code"] in _BUSY or status >= 500


def _pause(number_of_try: int) -> float:
    """Exponential backoff with full jitter, in seconds."""
    return _RANDOM.uniform(0, min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**number_of_try))


def _unavailable(error: Exception) -> Unavailable:
    return Unavailable(
        f"the job table does not answer ({type(error).__name__}: {error}).",
        code="store_unavailable",
        remedy="Try again in a moment.",
    )
