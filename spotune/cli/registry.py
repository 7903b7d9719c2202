"""`models`: groups of tuned models, their versions, and which of them is the champion."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from spotune.cli import words
from spotune.cli.blocks import add_row, facts, table
from spotune.cli.connection import find_connection
from spotune.cli.mlflow_registry import MLflowRegistry
from spotune.cli.model_api import ModelApi
from spotune.cli.model_pull import pull as pull_files
from spotune.cli.registry_tables import comparison_table, group_rows, version_rows, versions_table
from spotune.cli.screen import JsonOption, Screen
from spotune.contracts.errors import Conflict, RequestRefused
from spotune.contracts.registry import Judgement, ModelGroupObject, ModelVersionObject, Promotion, Rollback

app = typer.Typer(help="Base models, and groups of tuned ones: versions, champion, promotion.", no_args_is_help=True)

Group = Annotated[str, typer.Argument(metavar="GROUP", help="A model group's name.")]
Version = Annotated[int, typer.Argument(metavar="VERSION", min=1, help="A version's number.")]
Named = Annotated[str, typer.Argument(metavar="GROUP[@VERSION]", help="A group's champion, or one of its versions.")]
Why = Annotated[str, typer.Option(help="Why; it is kept in the history.")]


@app.command("list", epilog="Example: spotune models list")
def list_groups(json: JsonOption = False) -> None:
    """List model groups with their champions; `spotune models base` lists base models."""
    screen = Screen(machine=json)
    with ModelApi(find_connection()) as api:
        groups = list(api.groups())
    screen.emit({"object": "list", "data": [group.model_dump(mode="json") for group in groups]})
    listed, now = table("group", "champion", "model", "versions", "changed"), time.time()
    for group in groups:
        champion = group.champion
        number, model = ("-", "-") if champion is None else (str(champion.version), champion.model)
        changed = f"{words.age(now - group.history[-1].at)} ago" if group.history else "-"
        add_row(listed, group.id, number, model, str(group.versions), changed)
    screen.show(listed)


@app.command(epilog="Example: spotune models show support@3")
def show(named: Named, json: JsonOption = False) -> None:
    """Show a group and how its champion changed, or one version with its verdict and lineage."""
    screen = Screen(machine=json)
    name, version = _split(named)
    with ModelApi(find_connection()) as api:
        group = api.group(name)
        found = None if version is None else _version(api, group, version)
    answer: ModelGroupObject | ModelVersionObject = group if found is None else found
    screen.emit(answer.model_dump(mode="json"))
    screen.show(facts(named, group_rows(group) if found is None else version_rows(found)))


@app.command(epilog="Example: spotune models versions support")
def versions(group: Group, json: JsonOption = False) -> None:
    """List a group's versions, newest first."""
    screen = Screen(machine=json)
    with ModelApi(find_connection()) as api:
        found = list(api.versions(group))
    screen.emit({"object": "list", "data": [one.model_dump(mode="json") for one in found]})
    screen.show(versions_table(found, now=time.time()))


@app.command(epilog='Example: spotune models promote support 3 --why "better on refunds"')
def promote(group: Group, version: Version, why: Why = "", json: JsonOption = False) -> None:
    """Make a version the champion."""
    screen = Screen(machine=json)
    with ModelApi(find_connection()) as api:
        changed = api.promote(group, Promotion(version=version, why=why))
    screen.emit(changed.model_dump(mode="json"))
    screen.say(_champion_words(changed))


@app.command(epilog='Example: spotune models rollback support --why "it answers in French"')
def rollback(group: Group, why: Why = "", json: JsonOption = False) -> None:
    """Go back to the champion before; again, further back."""
    screen = Screen(machine=json)
    with ModelApi(find_connection()) as api:
        present = api.group(group).champion
        request = Rollback(champion=present.version if present is not None else None, why=why)
        changed = api.roll_back(group, request)
    screen.emit(changed.model_dump(mode="json"))
    screen.say(_champion_words(changed))


@app.command(epilog="Example: spotune models compare support 2 3")
def compare(
    group: Group,
    a: Annotated[int, typer.Argument(metavar="A", min=1, help="A version's number.")],
    b: Annotated[int, typer.Argument(metavar="B", min=1, help="Another's.")],
    json: JsonOption = False,
) -> None:
    """Compare two versions, metric by metric."""
    screen = Screen(machine=json)
    with ModelApi(find_connection()) as api:
        compared = api.compare(group, a, b)
    screen.emit(compared.model_dump(mode="json"))
    screen.show(comparison_table(compared, str(a), str(b)))
    if not compared.same_rows:
        screen.note("The two were scored on different held-out rows: differences may come from the rows.")


@app.command(epilog='Example: spotune models approve support 4 --why "read 20 answers"')
def approve(group: Group, version: Version, why: Why = "", json: JsonOption = False) -> None:
    """Let in a version that waits for a person: it becomes champion."""
    _judge(group, version, "approve", why, json=json)


@app.command(epilog='Example: spotune models reject support 4 --why "it invents refunds"')
def reject(group: Group, version: Version, why: Why = "", json: JsonOption = False) -> None:
    """Turn away a version that waits for a person, for good."""
    _judge(group, version, "reject", why, json=json)


@app.command(epilog="Example: spotune models deprecate support 2")
def deprecate(group: Group, version: Version, why: Why = "", json: JsonOption = False) -> None:
    """Pass a version over from now on: no rollback leads to it."""
    _judge(group, version, "deprecate", why, json=json)


@app.command(epilog="Example: spotune models delete support@1")
def delete(named: Named, json: JsonOption = False) -> None:
    """Delete a version's files; its record stays. Refused for a champion."""
    screen = Screen(machine=json)
    name, version = _split(named)
    if version is None:
        raise RequestRefused(
            f"{named!r} names no version.", code="version_missing", remedy=f"Name one: {named}@1, for instance."
        )
    with ModelApi(find_connection()) as api:
        gone = api.delete_model(_version(api, api.group(name), version).id)
    screen.emit(gone.model_dump(mode="json"))
    screen.say(f"{gone.id} is deleted; its files go within minutes.")


@app.command(epilog="Example: spotune models pull support --out champion")
def pull(
    named: Named,
    out: Annotated[Path, typer.Option(help="A folder that does not exist yet, or is empty.")],
    json: JsonOption = False,
) -> None:
    """Download a version's files, and verify each against what was registered."""
    screen = Screen(machine=json)
    name, version = _split(named)
    with ModelApi(find_connection()) as api:
        found = _version(api, api.group(name), version or "champion")
        folder = pull_files(api, found, out)
    size = sum(file.bytes for file in found.files)
    screen.emit({"model": found.id, "version": found.version, "folder": str(folder), "files": len(found.files)})
    screen.say(
        f"{found.id} (version {found.version}): {len(found.files)} files, {size:,} bytes, verified, in {folder}."
    )


@app.command(epilog="Example: spotune models mlflow support --server https://mlflow.example.com")
def mlflow(
    group: Group,
    server: Annotated[str, typer.Option(envvar="MLFLOW_TRACKING_URI", help="The MLflow server's address.")],
    name: Annotated[str, typer.Option(help="Of the registered model there; the group's by default.")] = "",
    json: JsonOption = False,
) -> None:
    """Show a group in MLflow's registry: its versions with their lineage, and the alias champion."""
    screen = Screen(machine=json)
    with ModelApi(find_connection()) as api:
        found, versions = api.group(group), list(api.versions(group))
    with MLflowRegistry(server) as registry:
        shown = registry.show(name or group, found, versions)
    screen.emit({"model": name or group, "versions": shown, "champion": found.champion and found.champion.model})
    listed = table("model", "MLflow's version")
    for model, number in shown.items():
        add_row(listed, model, f"{number} (champion)" if found.champion and found.champion.model == model else number)
    screen.show(listed)


def _judge(group: str, version: int, what: str, why: str, *, json: bool) -> None:
    screen = Screen(machine=json)
    with ModelApi(find_connection()) as api:
        judged = api.judge(group, version, what, Judgement(why=why))
    screen.emit(judged.model_dump(mode="json"))
    reason = judged.history[-1].why
    screen.say(f"Version {version} of {group} is {judged.status.replace('_', ' ')}{f': {reason}' if reason else '.'}")


def _split(named: str) -> tuple[str, str | None]:
    """Group and version; `support@champion` and `support@3`."""
    name, _, version = named.partition("@")
    if version and version != "champion" and not version.isdecimal():
        raise RequestRefused(
            f"{version!r} is no version.", code="invalid_value", param="version", remedy="Give a number, or champion."
        )
    return name, version or None


def _version(api: ModelApi, group: ModelGroupObject, version: str) -> ModelVersionObject:
    if version != "champion":
        return api.version(group.id, int(version))
    if group.champion is None:
        raise Conflict(
            f"Group {group.id} has no champion.",
            code="no_champion",
            remedy="Name a version: `spotune models versions` lists them.",
        )
    return api.version(group.id, group.champion.version)


def _champion_words(group: ModelGroupObject) -> str:
    if group.champion is None:
        return f"{group.id} has no champion."
    return f"Version {group.champion.version} is champion of {group.id}: {group.champion.model} at {group.champion.uri}"
