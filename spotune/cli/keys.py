"""`keys`: make, list and revoke API keys. Needs a key with the scope `admin`."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from pydantic import ValidationError

from spotune.cli import words
from spotune.cli.client import Api
from spotune.cli.connection import find_connection
from spotune.cli.render import add_row, table
from spotune.cli.screen import JsonOption, Screen
from spotune.contracts.api import KeyRequest
from spotune.contracts.base import dollars
from spotune.contracts.errors import RequestRefused

app = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)


@app.command(epilog="Example: spotune keys create ci --scope read --scope submit")
def create(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    scope: Annotated[list[str] | None, typer.Option(help="read, submit or admin; may be repeated.")] = None,
    monthly_limit: Annotated[
        float | None, typer.Option("--monthly-limit", help="Dollars that jobs submitted with it may spend a month.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Make a key. It is printed once; only its hash is kept."""
    screen = Screen(machine=json)
    request = _request(name, scope, monthly_limit)
    with Api(find_connection()) as api:
        made = api.create_key(request)
    screen.emit(made.model_dump(mode="json"))
    screen.say(f"{made.key}\n\n{made.id}, scopes {', '.join(made.scopes)}. It is shown this once.")


def _request(name: str, scope: list[str] | None, monthly_limit: float | None) -> KeyRequest:
    asked = {"name": name, "scopes": tuple(scope) if scope else None, "monthly_limit_usd": monthly_limit}
    try:
        return KeyRequest.model_validate({field: value for field, value in asked.items() if value is not None})
    except ValidationError as error:
        fault = error.errors()[0]
        raise RequestRefused(
            f"{fault['loc'][0]}: {fault['msg']}.",
            code="invalid_value",
            param=str(fault["loc"][0]),
            remedy="Scopes are read, submit, admin; a limit is in dollars.",
        ) from None


@app.command("list", epilog="Example: spotune keys list")
def list_keys(json: JsonOption = False) -> None:
    """List the tenant's keys, newest first."""
    screen = Screen(machine=json)
    with Api(find_connection()) as api:
        page = api.keys()
    screen.emit(page.model_dump(mode="json"))
    listed, now = table("key", "name", "scopes", "a month", "made", "last used", "state"), time.time()
    for key in page.data:
        used = "never" if key.last_used_at is None else f"{words.age(now - key.last_used_at)} ago"
        state = "open" if key.revoked_at is None else "revoked"
        limit = "-" if key.monthly_limit is None else dollars(key.monthly_limit)
        made = f"{words.age(now - key.created_at)} ago"
        add_row(listed, key.id, key.name, ", ".join(key.scopes), limit, made, used, state)
    screen.show(listed)


@app.command(epilog="Example: spotune keys revoke key-...")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="Its id, from `spotune keys list`.")],
    json: JsonOption = False,
) -> None:
    """Close a key at once."""
    screen = Screen(machine=json)
    with Api(find_connection()) as api:
        key = api.revoke_key(key_id)
    screen.emit(key.model_dump(mode="json"))
    screen.say(f"{key.id} ({key.name}) opens nothing any more.")
