"""`budget`: what the tenant, or a key, has spent, reserved and left."""

from __future__ import annotations

from typing import Annotated

import typer

from spotune.cli.blocks import facts, notes, paragraphs
from spotune.cli.client import Api
from spotune.cli.connection import find_connection
from spotune.cli.screen import JsonOption, Screen
from spotune.contracts.base import dollars


def budget(
    month: Annotated[str | None, typer.Option(metavar="YYYY-MM", help="Another month than the present one.")] = None,
    key: Annotated[str | None, typer.Option(metavar="KEY", help="Of one key that has a limit, by its id.")] = None,
    json: JsonOption = False,
) -> None:
    """Show the money of the tenant, or of a key, in a month: limit, billed, reserved, left."""
    screen = Screen(machine=json)
    with Api(find_connection()) as api:
        seen = api.budget(month, key)
    screen.emit(seen.model_dump(mode="json"))
    rows = [
        ("limit", dollars(seen.limit)),
        ("billed", dollars(seen.billed)),
        ("reserved", f"{dollars(seen.reserved)}, the worst case of what runs"),
        ("left", dollars(seen.left)),
    ]
    warnings = [seen.warning] if seen.warning else []
    screen.show(paragraphs([facts(f"{seen.key or seen.tenant}, {seen.month}", rows), *notes(warnings)]))
