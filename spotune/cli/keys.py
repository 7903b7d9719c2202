"""`keys`: make, list and revoke API keys. Needs a key with the scope `admin`."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from pydantic import ValidationError

from spotune.cli import words
from spotune.cli.blocks import add_row, table
from spotune.cli.client import Api
from spotune.cli.connection import find_connection
from spotune.cli.screen import JsonOption, Screen
from spotune.contracts.api import KeyRequest
from spotune.contracts.base import dollars
from spotune.contracts.errors import RequestRefused

app = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)


@app.command(epilog="Example: spotune keys create ci --scope read --requests-per-minute 60")
def create(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    scope: Annotated[list[str] | None, typer.Option(help="read, submit or admin; may be repeated.")] = None,
    monthly_limit: Annotated[
        float | None, typer.Option("--monthly-limit", help="Dollars that jobs submitted with it may spend a month.")
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(help="Those of the key that makes it, unless fewer are said.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Make a key. It is printed once; only its hash is kept."""
    screen = Screen(machine=json)
    asked = {
        "name": name,
        "scopes": tuple(scope) if scope else None,
        "monthly_limit_usd": monthly_limit,
        "requests_per_minute": requests_per_minute,
    }
    request = _request({field: value for field, value in asked.items() if value is not None})
    with Api(find_connection()) as api:
        made = api.create_key(request)
    screen.emit(made.model_dump(mode="json"))
    allowed = f"scopes {', '.join(made.scopes)}, {made.requests_per_minute} requests a minute"
    screen.say(f"{made.key}\n\n{made.id}, {allowed}. It is shown this once.")


@app.command("list", epilog="Example: spotune keys list")
def list_keys(json: JsonOption = False) -> None:
    """List the tenant's keys, newest first."""
    screen = Screen(machine=json)
    with Api(find_connection()) as api:
        page = api.keys()
    screen.emit(page.model_dump(mode="json"))
    listed, now = table("key", "name", "scopes", "a month", "a minute", "made", "last used", "state"), time.time()
    for key in page.data:
        used = "never" if key.last_used_at is None else f"{words.age(now - key.last_used_at)} ago"
        state = "open" if key.revoked_at is None else "revoked"
        name = key.name if key.principal is None else f"{key.name} ({key.principal})"
        limit = "-" if key.monthly_limit is None else dollars(key.monthly_limit)
        allowed, made = str(key.requests_per_minute), f"{words.age(now - key.created_at)} ago"
        add_row(listed, key.id, name, ", ".join(key.scopes), limit, allowed, made, used, state)
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


def _request(asked: dict[str, object]) -> KeyRequest:
    try:
        return KeyRequest.model_validate(asked)
    except ValidationError as error:
        fault = error.errors()[0]
        raise RequestRefused(
            f"{fault['loc'][0]}: {fault['msg']}.",
            code="invalid_value",
            param=str(fault["loc"][0]),
            remedy="Scopes are read, submit, admin; a name has 1 to 64 characters; a month's limit is in dollars.",
        ) from None
