"""The table's changes since its last snapshot, a line an item, so that a write costs what it changes.

A snapshot holds whole tables, which grow with all that was ever done. A line holds an item as it became: read again, in
whatever state the snapshot was, the last line of each item holds. A line that a kill cut off belongs to a write that
nobody was told of.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from spotune.local.state import write_private

ITEM_WRITES = frozenset({"BatchWriteItem", "DeleteItem", "PutItem", "TransactWriteItems", "UpdateItem"})
"""DynamoDB's actions that change items and nothing else."""
LONGEST_BYTES = 32 * 1024**2
"""Of a journal before a new snapshot is taken in its place, unless the snapshot is longer."""


class Journal:
    """Collects changes as ministack makes them, and appends them to a file when asked.

    Args:
        path: the file; what it holds must have been merged before.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self._pending: list[tuple[str, str, str, dict[str, Any] | None]] = []
        self._tables: frozenset[str] = frozenset()
        self._snapshot_bytes = 0
        self.length = 0

    @property
    def needs_snapshot(self) -> bool:
        """Whether it is longer than it should be, or tells of a table that the snapshot has not."""
        strangers = any(table not in self._tables for table, *_ in self._pending)
        return strangers or self.length > max(LONGEST_BYTES, self._snapshot_bytes)

    def note(self, table: str, partition: str, sort: str, item: dict[str, Any] | None) -> None:
        """Take one item's new state; None where it was removed."""
        self._pending.append((table, partition, sort, item))

    def flush(self) -> None:
        """Append what was noted.

        Raises:
            OSError: it cannot be written; the file is as before, and the next call tries again.
        """
        pending, self._pending = self._pending, []
        lines = b"".join(json.dumps(entry, separators=(",", ":")).encode() + b"\n" for entry in pending)
        try:
            written = self._file.write(lines)
            if written != len(lines):
                raise OSError(f"only {written} of {len(lines)} bytes of the journal were written")
        except OSError:
            self._pending = pending + self._pending
            self._file.truncate(self.length)
            raise
        self.length += len(lines)

    def begin_anew(self, tables: frozenset[str], snapshot_bytes: int) -> None:
        """Forget everything: a snapshot of these tables holds it now."""
        self._file.truncate(0)
        self._pending.clear()
        self._tables, self._snapshot_bytes, self.length = tables, snapshot_bytes, 0


def follow(dynamodb: Any, journal: Journal) -> None:
    """Have ministack's DynamoDB note every change of an item; both of these are its only ways to change one."""
    set_item, remove_item = dynamodb._set_item, dynamodb._remove_item

    def noted_set(table: dict[str, Any], partition: str, sort: str, item: dict[str, Any]) -> Any:
        journal.note(table["TableArn"], partition, sort, item)
        return set_item(table, partition, sort, item)

    def noted_remove(table: dict[str, Any], partition: str, sort: str) -> Any:
        journal.note(table["TableArn"], partition, sort, None)
        return remove_item(table, partition, sort)

    dynamodb._set_item, dynamodb._remove_item = noted_set, noted_remove


def merge(snapshot: Path, path: Path) -> None:
    """Write a journal that was left into the snapshot that it follows, and remove it. A kill meanwhile does no harm."""
    if snapshot.exists() and path.exists():
        document = json.loads(snapshot.read_bytes())
        tables = {table["TableArn"]: table for table in document["payload"]["tables"]["data"].values()}
        for line in path.read_bytes().split(b"\n")[:-1]:
            _apply(tables, *json.loads(line))
        write_private(snapshot, json.dumps(document))
    path.unlink(missing_ok=True)


def _apply(tables: dict[str, Any], arn: str, partition: str, sort: str, item: dict[str, Any] | None) -> None:
    if arn not in tables:
        return
    table = tables[arn]
    items = table["items"].setdefault(partition, {})
    table["ItemCount"] += (item is not None) - (sort in items)
    if item is None:
        items.pop(sort, None)
    else:
        items[sort] = item
    if not items:
        del table["items"][partition]
