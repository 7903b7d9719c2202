"""`audit`: who changed what in the tenant. Needs a key with the scope `admin`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from spotune.cli.blocks import add_row, table
from spotune.cli.client import Api
from spotune.cli.connection import find_connection
from spotune.cli.screen import JsonOption, Screen
from spotune.contracts.audit import AuditObject


def audit(
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 20,
    after: Annotated[str | None, typer.Option(metavar="ID", help="Older than this record.")] = None,
    json: JsonOption = False,
) -> None:
    """Show who changed what in your tenant, newest first, refused calls too."""
    screen = Screen(machine=json)
    with Api(find_connection()) as api:
        page = api.audit_log(after=after, limit=limit)
    screen.emit(page.model_dump(mode="json"))
    listed = table("time (UTC)", "who", "from", "did", "to", "result")
    for record in page.data:
        where, target = record.address or "-", record.target or "-"
        add_row(listed, _time(record), _who(record), where, record.action, target, _result(record))
    screen.show(listed)
    if page.has_more:
        screen.say(f"\nMore: spotune audit --after {page.last_id}")


def _time(record: AuditObject) -> str:
    return datetime.fromtimestamp(record.created_at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _who(record: AuditObject) -> str:
    return record.actor if record.actor == record.actor_name else f"{record.actor_name} ({record.actor})"


def _result(record: AuditObject) -> str:
    if record.status is None:
        return "unknown: it never ended"
    return f"{record.status} {record.code}" if record.code else str(record.status)
