"""`rules`: retraining when new data lands."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from spotune.cli import words
from spotune.cli.blocks import add_row, facts, table
from spotune.cli.connection import find_connection
from spotune.cli.jobfile import GOLDEN_FIELD, Body, checked, local_files, merge, parse_assignments, read_job_file
from spotune.cli.rule_api import RuleApi
from spotune.cli.rule_words import pending_words, rule_rows, state_words
from spotune.cli.screen import JsonOption, Screen
from spotune.cli.upload import upload
from spotune.contracts.base import dollars
from spotune.contracts.rule_objects import RuleObject
from spotune.contracts.rules import RuleRequest

app = typer.Typer(help="Have new data start the right retraining by itself.", no_args_is_help=True)

RULE_GOLDEN_FIELD = f"job.{GOLDEN_FIELD}"

Rule = Annotated[str, typer.Argument(metavar="RULE", help="Its name, or its id.")]
Limit = Annotated[int, typer.Option(min=1, max=100, help="Items at most.")]


@app.command(epilog="Example: spotune rules create rule.yaml --set trigger.min_rows=500")
def create(
    file: Annotated[Path, typer.Argument(help="A rule file, YAML or JSON: the API's own fields.")],
    change: Annotated[
        list[str] | None, typer.Option("--set", help="field=value put over the file; may be repeated.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Make a rule. The same file a second time is the same rule."""
    screen = Screen(machine=json)
    source = read_job_file(file)
    body = merge(source.body, parse_assignments(change or ()))
    checked(source, body, RuleRequest)
    files = local_files(body, source.folder, (RULE_GOLDEN_FIELD,))
    with RuleApi(find_connection()) as api:
        ids = {name: upload(api, path, screen).id for name, path in files.items()}
        made = api.create_rule(checked(source, merge(body, ids), RuleRequest))
    _show(screen, made)


@app.command("list", epilog="Example: spotune rules list")
def list_rules(limit: Limit = 20, json: JsonOption = False) -> None:
    """List the tenant's rules, newest first."""
    screen = Screen(machine=json)
    with RuleApi(find_connection()) as api:
        page = api.rules(limit=limit)
    screen.emit(page.model_dump(mode="json"))
    listed = table("rule", "source", "state", "pending", "retrainings", "spent this month", "waits for")
    for one in page.data:
        spent = dollars(one.money.spent) + ("" if one.money.limit is None else f" of {dollars(one.money.limit)}")
        begun = str(one.retrainings) if one.live is None else f"{one.retrainings}, one lives"
        add_row(listed, one.name, one.source.uri, state_words(one), pending_words(one), begun, spent, one.waiting_for)
    screen.show(listed)


@app.command(epilog="Example: spotune rules show support")
def show(rule: Rule, json: JsonOption = False) -> None:
    """Show a rule: what is pending, and what it waits for."""
    screen = Screen(machine=json)
    with RuleApi(find_connection()) as api:
        found = api.rule(rule)
    _show(screen, found)


@app.command("set", epilog="Example: spotune rules set support trigger.min_rows=500 monthly_budget_usd=100")
def change(
    rule: Rule,
    changes: Annotated[
        list[str], typer.Argument(metavar="FIELD=VALUE...", help="Dotted fields; `null` sets one back.")
    ],
    json: JsonOption = False,
) -> None:
    """Change fields of a rule. A retraining that was begun goes on as it was."""
    screen = Screen(machine=json)
    body = merge({}, parse_assignments(changes))
    files = local_files(body, Path.cwd(), (RULE_GOLDEN_FIELD,))
    with RuleApi(find_connection()) as api:
        ids = {name: upload(api, path, screen).id for name, path in files.items()}
        changed = api.change_rule(rule, merge(body, ids))
    _show(screen, changed)


@app.command(epilog="Example: spotune rules on support")
def on(rule: Rule, json: JsonOption = False) -> None:
    """Switch a rule on. Moments of its schedule that have passed are not made up for."""
    _switch(rule, {"enabled": True}, Screen(machine=json))


@app.command(epilog="Example: spotune rules off support")
def off(rule: Rule, json: JsonOption = False) -> None:
    """Switch a rule off. New data is still taken in, and a retraining that was begun goes on."""
    _switch(rule, {"enabled": False}, Screen(machine=json))


@app.command(epilog="Example: spotune rules delete support")
def delete(rule: Rule, json: JsonOption = False) -> None:
    """Delete a rule. Its models stay."""
    screen = Screen(machine=json)
    with RuleApi(find_connection()) as api:
        gone = api.delete_rule(rule)
    screen.emit(gone.model_dump(mode="json"))
    screen.say(f"{rule} ({gone.id}) starts nothing any more. Its models stay.")


@app.command(epilog="Example: spotune rules fire support")
def fire(rule: Rule, json: JsonOption = False) -> None:
    """Begin a retraining now, whatever thresholds, quiet window and schedule say, within the rule's limits."""
    screen = Screen(machine=json)
    with RuleApi(find_connection()) as api:
        begun = api.fire_rule(rule)
    screen.emit(begun.model_dump(mode="json"))
    screen.say(f"Retraining {begun.number} of {rule} has begun; it may cost {dollars(begun.cap)} at most.")
    screen.say(f"See it with: spotune rules retrainings {rule}")


@app.command(epilog="Example: spotune rules retrainings support")
def retrainings(rule: Rule, limit: Limit = 20, json: JsonOption = False) -> None:
    """List a rule's retrainings, newest first."""
    screen = Screen(machine=json)
    with RuleApi(find_connection()) as api:
        page = api.retrainings(rule, limit=limit)
    screen.emit(page.model_dump(mode="json"))
    listed, now = table("retraining", "begun", "by", "state", "rows", "job", "gate", "cost", "why"), time.time()
    for one in page.data:
        state = f"{one.state}, released" if one.released else one.state
        rows = "-" if one.rows is None else f"{one.rows:,}"
        gate = "-" if one.decision is None else words.DECISIONS[one.decision]
        cost = f"up to {dollars(one.cap)}" if one.billed is None else dollars(one.billed)
        begun = f"{words.age(now - one.created_at)} ago"
        add_row(listed, str(one.number), begun, one.cause, state, rows, one.job_id or "-", gate, cost, one.reason)
    screen.show(listed)


@app.command(epilog="Example: spotune rules arrivals support --state quarantined")
def arrivals(
    rule: Rule,
    state: Annotated[str | None, typer.Option(help="Those in this state alone, e.g. quarantined.")] = None,
    limit: Limit = 20,
    json: JsonOption = False,
) -> None:
    """List what has landed, and what became of it, newest first."""
    screen = Screen(machine=json)
    with RuleApi(find_connection()) as api:
        page = api.arrivals(rule, state=state, limit=limit)
    screen.emit(page.model_dump(mode="json"))
    listed, now = table("object", "version", "landed", "state", "rows", "bytes", "why"), time.time()
    for one in page.data:
        rows, landed = "-" if one.rows is None else f"{one.rows:,}", f"{words.age(now - one.arrived_at)} ago"
        why = f"{one.reason} ({one.report_uri})" if one.report_uri else one.reason
        add_row(listed, one.uri, one.version_id or "-", landed, one.state, rows, f"{one.bytes:,}", why)
    screen.show(listed)


@app.command(epilog="Example: spotune rules release support 1")
def release(
    rule: Rule,
    number: Annotated[int, typer.Argument(min=1, help="Of a retraining whose model the gate rejected.")],
    json: JsonOption = False,
) -> None:
    """Let a rule train on the data of a rejected retraining after all."""
    screen = Screen(machine=json)
    with RuleApi(find_connection()) as api:
        released = api.release(rule, number)
    screen.emit(released.model_dump(mode="json"))
    screen.say(f"The data of retraining {number} of {rule} counts as new again.")


def _switch(rule: str, body: Body, screen: Screen) -> None:
    with RuleApi(find_connection()) as api:
        changed = api.change_rule(rule, body)
    screen.emit(changed.model_dump(mode="json"))
    screen.say(f"{changed.name} is {state_words(changed)}.")


def _show(screen: Screen, rule: RuleObject) -> None:
    screen.emit(rule.model_dump(mode="json"))
    screen.show(facts(f"Rule {rule.name}", rule_rows(rule, now=time.time())))
