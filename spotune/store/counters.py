"""What a decision counts beside its job: money in ledgers, places in lines. By differences, under conditions.

Every move also counts itself (`changes`, `changed_at`), so that a repair can tell whether anything came in between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spotune.contracts.base import MicroUSD
from spotune.contracts.job import JobRecord, LedgerChange
from spotune.contracts.lines import LineChange
from spotune.store import items
from spotune.store.base import LedgerImbalance, LimitReached, LineFull
from spotune.store.items import Item, number, text


@dataclass(frozen=True, slots=True)
class Write:
    """One item of a transaction, and what it means where its condition does not hold on the item that is there."""

    item: dict[str, Any]
    refusal: Callable[[Item | None], Exception]


def ledger_writes(job: JobRecord, moves: Sequence[LedgerChange], limit: MicroUSD) -> list[Write]:
    """Of the tenant's ledgers, and of the key's where that has a limit. None where no money moves."""
    keys = [] if job.key is None else [(job.key.id, job.key.monthly_limit)]
    accounts = [("", limit), *keys]
    return [_ledger_write(job, money, *account) for money in moves if money.moves for account in accounts]


def _ledger_write(job: JobRecord, money: LedgerChange, key: str, limit: MicroUSD) -> Write:
    """`committed` is `reserved + billed`, kept since conditions cannot add."""
    month = money.month
    reserved, billed = money.reserve - money.release, money.settle
    values = {":reserved": number(reserved), ":billed": number(billed), ":committed": number(reserved + billed)}
    conditions = []
    if money.release:
        conditions.append("reserved >= :release")
        values[":release"] = number(money.release)
    if money.reserve:
        room = limit - reserved - billed
        untouched = "attribute_not_exists(committed) OR " if room >= 0 else ""
        conditions.append(f"({untouched}committed <= :room)")
        values[":room"] = number(room)
    values[":tenant"] = text(job.tenant)
    update = _update(
        items.ledger_key(job.tenant, month, key),
        add="reserved :reserved, billed :billed, committed :committed",
        put="tenant = :tenant",
        values=values,
        conditions=conditions,
        listed=(items.ledgers_of(month), f"{job.tenant}#{key}"),
        at=job.updated_at,
    )

    def refusal(found: Item | None) -> Exception:
        ledger = items.ledger_of(found, job.tenant, month, limit, key)
        return LedgerImbalance(ledger, money.release) if money.release > ledger.reserved else LimitReached(ledger)

    return Write(update, refusal)


def line_writes(job: JobRecord, changes: tuple[LineChange, ...], places: Mapping[str, int]) -> list[Write]:
    """Of every line that the decision moves."""
    return [_line_write(job, change, places.get(change.line)) for change in changes]


def _line_write(job: JobRecord, change: LineChange, places: int | None) -> Write:
    values = {":held": number(change.held), ":waiting": number(change.waiting)}
    conditions = []
    if change.held > 0 and places is not None:
        untouched = "attribute_not_exists(held) OR " if change.held <= places else ""
        conditions.append(f"({untouched}held <= :room)")
        values[":room"] = number(places - change.held)
    if change.held > 0 and not change.in_turn:
        conditions.append("(attribute_not_exists(waiting) OR waiting <= :nobody)")
        values[":nobody"] = number(0)
    update = _update(
        items.line_key(change.line),
        add="held :held, waiting :waiting",
        put="",
        values=values,
        conditions=conditions,
        listed=(items.LINES, change.line),
        at=job.updated_at,
    )
    return Write(update, lambda found: LineFull(items.line_of(found, change.line)))


def _update(
    key: Item, *, add: str, put: str, values: Item, conditions: list[str], listed: tuple[str, str], at: float
) -> dict[str, Any]:
    partition, place = listed
    values |= {":one": number(1), ":at": {"N": repr(at)}, ":partition": text(partition), ":place": text(place)}
    fixed = ", ".join(filter(None, ["changed_at = :at, gsi2pk = :partition, gsi2sk = :place", put]))
    update = {
        "Key": key,
        "UpdateExpression": f"ADD {add}, changes :one SET {fixed}",
        "ExpressionAttributeValues": values,
    }
    return {"Update": update | ({"ConditionExpression": " AND ".join(conditions)} if conditions else {})}
