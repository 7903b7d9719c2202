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
from spotune.contracts.errors import RequestRefused

app = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)


@app.command(epilog="Example: spotune keys create ci --scope read --scope submit")
def create(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    scope: Annotated[list[str] | None, typer.Option(help="read, submit or admin; may be repeated.")] = None,
    json: JsonOption = False,
) -> None:
    """Make a key. It is printed once; only its hash is kept."""
    screen = Screen(machine=json)
    try:
        request = KeyRequest.model_validate({"name": name, **({"scopes": tuple(scope)} if scope else {})})
    except ValidationError as error:
        raise RequestRefused(
            f"{error.errors()[0]['msg']}.", code="invalid_value", param="scopes", remedy="Scopes: read, submit, admin."
        ) from None
    with Api(find_connection()) as api:
        made = api.create_key(request)
    screen.emit(made.model_dump(mode="json"))
    screen.say(f"{made.key}\n\n{made.id}, scopes {', '.join(made.scopes)}. It is shown this once.")


@app.command("list", epilog="Example: spotune keys list")
def list_keys(json: JsonOption = False) -> None:
    """List the tenant's keys, newest first."""
    screen = Screen(machine=json)
    with Api(find_connection()) as api:
        page = api.keys()
    screen.emit(page.model_dump(mode="json"))
    listed, now = table("key", "name", "scopes", "made", "last used", "state"), time.time()
    for key in page.data:
        used = "never" if key.last_used_at is None else f"{words.age(now - key.last_used_at)} ago"
        state = "open" if key.revoked_at is None else "revoked"
        add_row(listed, key.id, key.name, ", ".join(key.scopes), f"{words.age(now - key.created_at)} ago", used, state)
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
