"""What every part of the store in DynamoDB does with the table: gets, queries, lists and transactions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from spotune.contracts.base import Timestamp
from spotune.store import items
from spotune.store.counters import Write
from spotune.store.items import Item, text
from spotune.store.records import is_id, moment, unknown_cursor
from spotune.store.transaction import Transaction, call


class DynamoTable:
    """The table, and a client for it.

    Args:
        table_name: a table with string keys `pk`, `sk` and the indexes of the template (all attributes projected).
        client: boto3's low-level DynamoDB client, with its own retries and timeouts.
        hasty: gives a client that tries once and waits for no more than moments; `client` where it is None.
        sleep: waits so many seconds between tries of a transaction.
    """

    def __init__(
        self,
        table_name: str,
        client: Any,
        *,
        hasty: Callable[[], Any] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._table = table_name
        self._client = client
        self._hasty = hasty or (lambda: client)
        self._sleep = sleep

    def _transact(self, writes: Sequence[Write], token: str) -> None:
        Transaction(self._table, writes, token).run(self._client, self._sleep)

    def _get_owned(self, tenant: str, key: Callable[[str], Item], record_id: str, **more: object) -> Item | None:
        item = self._get(key(record_id), **more) if is_id(record_id) else None
        return item if item is not None and is_of(item, tenant) else None

    def _get(self, key: Item, **more: object) -> Item | None:
        found = call(self._client.get_item, TableName=self._table, Key=key, ConsistentRead=True, **more)
        return found.get("Item")

    def _cursor(self, tenant: str, key: Callable[[str], Item], after: str | None) -> Item | None:
        """The place in the tenant's list of the record that a page follows."""
        if after is None:
            return None
        item = self._get_owned(tenant, key, after, ProjectionExpression="tenant, gsi1sk")
        if item is None:
            raise unknown_cursor(after)
        return {":after": item["gsi1sk"]}

    def _listed(
        self, partition: str, start: Item | None, limit: int, *, ascending: bool, index: str = items.BY_TENANT
    ) -> Iterator[Item]:
        """Up to `limit + 1` items, so that it is known whether there are more."""
        beyond = f" AND {index}sk {'>' if ascending else '<'} :after" if start else ""
        found = self._query(
            limit + 1,
            IndexName=index,
            KeyConditionExpression=f"{index}pk = :partition{beyond}",
            ExpressionAttributeValues={":partition": text(partition), **(start or {})},
            ScanIndexForward=ascending,
        )
        return islice(found, limit + 1)

    def _newest_first(self, key: Callable[[int], Item], after: int, limit: int) -> list[Item]:
        """Up to `limit + 1` numbered items of one partition, of before the number `after`; 0: from the last one."""
        newest, oldest = key(after - 1 if after > 0 else items.LAST_SEQUENCE), key(0)
        found = self._query(
            limit + 1,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :oldest AND :newest",
            ExpressionAttributeValues={":pk": newest["pk"], ":oldest": oldest["sk"], ":newest": newest["sk"]},
            ScanIndexForward=False,
            ConsistentRead=True,
        )
        return list(islice(found, limit + 1))

    def _in_flight(self, partition: str, *, before: Timestamp | None = None, **more: object) -> Iterator[Item]:
        values = {":partition": text(partition)}
        if before is not None:
            values[":before"] = text(moment(before))
        return self._query(
            None,
            IndexName=items.IN_FLIGHT,
            KeyConditionExpression="gsi2pk = :partition" + (" AND gsi2sk < :before" if before is not None else ""),
            ExpressionAttributeValues=values,
            **more,
        )

    def _query(self, page_size: int | None, **arguments: object) -> Iterator[Item]:
        """All items of a query, fetched as they are asked for: DynamoDB ends a page at 1 MB."""
        if page_size is not None:
            arguments["Limit"] = page_size
        while True:
            found = call(self._client.query, TableName=self._table, **arguments)
            yield from found["Items"]
            if "LastEvaluatedKey" not in found:
                return
            arguments["ExclusiveStartKey"] = found["LastEvaluatedKey"]


def is_of(item: Item, tenant: str) -> bool:
    """True where the item is this tenant's."""
    return bool(item["tenant"]["S"] == tenant)
