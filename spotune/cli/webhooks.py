"""`webhooks`: where the tenant's events are posted. Needs a key with the scope `admin`."""

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
from spotune.contracts.errors import RequestRefused
from spotune.contracts.notifications import EVENT_TYPES
from spotune.contracts.webhooks import WebhookRequest, WebhookTest

app = typer.Typer(help="Have events posted to URLs, signed.", no_args_is_help=True)

Endpoint = Annotated[str, typer.Argument(metavar="WEBHOOK", help="Its id, from `spotune webhooks list`.")]


@app.command(epilog="Example: spotune webhooks create https://hooks.example.com/spotune --event budget.warning")
def create(
    url: Annotated[str, typer.Argument(help="An https address that the public internet reaches.")],
    name: Annotated[str, typer.Option(help="What it is for.")] = "webhook",
    event: Annotated[list[str] | None, typer.Option(help="An event type; may be repeated. All by default.")] = None,
    json: JsonOption = False,
) -> None:
    """Have events posted to a URL. The signing secret is printed once, and kept nowhere."""
    screen = Screen(machine=json)
    try:
        wanted = {"event_types": tuple(event)} if event else {}
        request = WebhookRequest.model_validate({"name": name, "url": url, **wanted})
    except ValidationError as error:
        raise RequestRefused(
            f"{error.errors()[0]['msg']}.",
            code="invalid_value",
            param=".".join(str(part) for part in error.errors()[0]["loc"][:1]),
            remedy=f"Event types: {', '.join(EVENT_TYPES)}.",
        ) from None
    with Api(find_connection()) as api:
        made = api.create_webhook(request)
    screen.emit(made.model_dump(mode="json"))
    screen.say(f"{made.signing_secret}\n\n{made.id} posts to {made.url}. The secret is shown this once.")


@app.command("list", epilog="Example: spotune webhooks list")
def list_webhooks(json: JsonOption = False) -> None:
    """List the tenant's webhooks, newest first."""
    screen = Screen(machine=json)
    with Api(find_connection()) as api:
        page = api.webhooks()
    screen.emit(page.model_dump(mode="json"))
    listed, now = table("webhook", "name", "url", "events", "made", "state"), time.time()
    for one in page.data:
        events = "all" if set(one.event_types) == set(EVENT_TYPES) else ", ".join(one.event_types)
        state = "open" if one.spotune.disabled_at is None else "disabled: it answered 410"
        add_row(listed, one.id, one.name, one.url, events, f"{words.age(now - one.created_at)} ago", state)
    screen.show(listed)


@app.command("test", epilog="Example: spotune webhooks test we_... --event fine_tuning.job.succeeded")
def send_test(
    webhook: Endpoint,
    event: Annotated[str, typer.Option(help="The type of the sample.")] = "webhook.test",
    json: JsonOption = False,
) -> None:
    """Post a sample event now, and say what the receiver answered."""
    screen = Screen(machine=json)
    try:
        request = WebhookTest.model_validate({"event_type": event})
    except ValidationError as error:
        raise RequestRefused(
            f"{error.errors()[0]['msg']}.",
            code="invalid_value",
            param="event_type",
            remedy=f"Event types: webhook.test, {', '.join(EVENT_TYPES)}.",
        ) from None
    with Api(find_connection()) as api:
        answer = api.test_webhook(webhook, request)
    screen.emit(answer.model_dump(mode="json"))
    verdict = "delivered" if 200 <= answer.status_code < 300 else "a delivery would be tried again"
    screen.say(f"{webhook} answered {answer.status_code}: {verdict}.")


@app.command(epilog="Example: spotune webhooks rotate we_... --keep-old")
def rotate(
    webhook: Endpoint,
    keep_old: Annotated[bool, typer.Option("--keep-old", help="Sign with the old secret, too, for 24 hours.")] = False,
    json: JsonOption = False,
) -> None:
    """Give a webhook another secret. It is printed once."""
    screen = Screen(machine=json)
    with Api(find_connection()) as api:
        made = api.rotate_webhook_secret(webhook, keep_old=keep_old)
    screen.emit(made.model_dump(mode="json"))
    until = "the old one signs too for 24 hours" if keep_old else "the old one signs nothing any more"
    screen.say(f"{made.signing_secret}\n\nThe new secret of {made.id}, shown this once; {until}.")


@app.command(epilog="Example: spotune webhooks delete we_...")
def delete(webhook: Endpoint, json: JsonOption = False) -> None:
    """Delete a webhook at once; what is on its way to it is dropped."""
    screen = Screen(machine=json)
    with Api(find_connection()) as api:
        gone = api.delete_webhook(webhook)
    screen.emit(gone.model_dump(mode="json"))
    screen.say(f"{gone.id} gets nothing any more.")
