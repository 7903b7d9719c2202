"""`deploy` and `destroy`: an installation in an AWS account, from its settings file."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from spotune.cli import blocks
from spotune.cli.screen import JsonOption, Screen
from spotune.cli.settings_file import DEFAULT_FILE, SettingsOption, read_settings, write_settings
from spotune.contracts.errors import Conflict, RequestRefused, SpotuneError
from spotune.deploy import bundle, deployment, destruction, keys, wheels
from spotune.deploy.account import Account, default_region
from spotune.deploy.deployment import Deployed, Step
from spotune.deploy.installation import Installation
from spotune.deploy.settings import Settings
from spotune.deploy.stacks import Change
from spotune.local.state import default_home

FALLBACK_REGION = "us-east-1"
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

_HALF_WAY = (
    "What is done stays done, and `spotune deploy` goes on from there. "
    "docs/deploying.md (Bringing it up to date) says what it does in which state."
)
_REPLACED = {"True": Text("made anew", style="bold red"), "Conditional": Text("perhaps made anew", style="yellow")}


def deploy(
    settings: SettingsOption = DEFAULT_FILE,
    init: Annotated[bool, typer.Option("--init", help="Write a settings file with every default, and end.")] = False,
    region: Annotated[str | None, typer.Option(help="For --init; this machine's AWS region by default.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show what would change, and end.")] = False,
    new_key: Annotated[bool, typer.Option("--new-key", help="Make another admin key, and end.")] = False,
    may_replace: Annotated[
        list[str] | None,
        typer.Option(metavar="RESOURCE", help="Let a change go on that may put an empty one in place of this."),
    ] = None,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Deploy the installation that the settings describe, or bring it up to date. Running jobs go on."""
    screen = Screen(machine=json)
    if init:
        _init(screen, settings, region or default_region() or FALLBACK_REGION)
        return
    installation = _installation(screen, settings)
    if new_key:
        key = keys.new_key(installation)
        screen.emit({"key": key})
        screen.say(f"{key}\n\nAn admin key of the tenant {installation.settings.first_tenant}. It is shown this once.")
        return
    code = build_bundle(screen, installation.settings)
    if plan:
        steps = deployment.plan(installation, code)
        screen.emit({"stage": installation.stage, "steps": [asdict(step) for step in steps]})
        _show_plan(screen, steps)
        return
    carry_out = partial(_carry_out, screen, installation, code, may_replace or ())
    made = carry_out(None) if yes else _deploy_as_shown(screen, installation, code, carry_out)
    screen.emit(
        {"stage": installation.stage, "api_url": made.api_url, "api_key": made.key, "outputs": {**made.outputs}}
    )
    _show_deployed(screen, installation, made)


def destroy(
    settings: SettingsOption = DEFAULT_FILE,
    delete_data: Annotated[
        str | None, typer.Option(metavar="STAGE", help="Delete table, buckets and secrets, too. Type the stage's name.")
    ] = None,
    stop_jobs: Annotated[bool, typer.Option("--stop-jobs", help="Stop training jobs that run.")] = False,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Take an installation away. Its data stays for the next deployment, unless it is to go, too."""
    screen = Screen(machine=json)
    installation = _installation(screen, settings)
    if delete_data is not None and delete_data != installation.stage:
        raise RequestRefused(
            f"The settings are those of {installation.stage!r}, and {delete_data!r} was typed. Nothing was deleted.",
            code="stage_mistyped",
            param="--delete-data",
            remedy="Type the name of the stage whose data is to be deleted.",
        )
    fate = "all its data with it" if delete_data else "its data stays"
    if not yes:
        _require(screen, f"Take {installation.stage} in {installation.settings.region} away; {fate}?")
    kept = destruction.destroy(installation, screen.note, delete_data=delete_data is not None, stop_jobs=stop_jobs)
    screen.emit({"stage": installation.stage, "kept": [asdict(thing) for thing in kept]})
    if kept:
        screen.show(blocks.facts("Kept for the next deployment", [(thing.name, thing.id) for thing in kept]))
    screen.say(f"{installation.stage} is gone." if not kept else f"{installation.stage} is gone, its data is kept.")


def build_bundle(screen: Screen, settings: Settings) -> Path:
    """The Lambda bundle for the settings' Python and processor, in the cache."""
    cache = bundle_cache()
    packages = wheels.packages_for(cache, settings.python, settings.architecture)
    if packages.compiler is None:
        screen.note(f"There is no Python {settings.python} here: Lambda compiles the bundle anew at each cold start.")
    return bundle.build(cache, bundle.BundleSources.installed(packages))


def bundle_cache() -> Path:
    """Where bundles and what they are made of are kept between deployments."""
    return default_home() / "cache" / "deploy"


def _init(screen: Screen, path: Path, region: str) -> None:
    write_settings(path, region)
    screen.emit({"settings": str(path)})
    screen.say(f"{path} is written. Look it through, then: spotune image build; spotune image push; spotune deploy")


def _installation(screen: Screen, path: Path) -> Installation:
    settings = read_settings(path)
    installation = Installation(Account(settings.region), settings)
    screen.note(f"{settings.stage} in the account {installation.account.id}, {settings.region}")
    return installation


def _deploy_as_shown(
    screen: Screen, installation: Installation, code: Path, carry_out: Callable[[Sequence[Step]], Deployed]
) -> Deployed:
    """Carry out what was shown and confirmed; where it is something else by then, show and ask again."""
    while True:
        steps = _agreed(screen, installation, code)
        try:
            return carry_out(steps)
        except Conflict as conflict:
            if conflict.code != "changed_since_shown":
                raise
            screen.say(str(conflict))


def _carry_out(
    screen: Screen, installation: Installation, code: Path, may_replace: Sequence[str], shown: Sequence[Step] | None
) -> Deployed:
    try:
        return deployment.deploy(installation, code, screen.note, shown=shown, may_replace=may_replace)
    except (SpotuneError, KeyboardInterrupt) as error:
        if not isinstance(error, SpotuneError) or error.code != "changed_since_shown":
            screen.note(_HALF_WAY)
        raise


def _agreed(screen: Screen, installation: Installation, code: Path) -> tuple[Step, ...]:
    """What is to change, confirmed. A stack that has to be mended first shows nothing before it is."""
    try:
        steps = deployment.plan(installation, code)
    except Conflict as conflict:
        if conflict.code != "stack_not_ready":
            raise
        screen.say(str(conflict))
        _require(screen, "Mend it? What changes after that is shown then.")
        deployment.mend(installation, screen.note)
        steps = deployment.plan(installation, code)
    if any(step.changes for step in steps):
        _show_plan(screen, steps)
        _require(screen, "Carry it out?")
    return steps


def _require(screen: Screen, question: str) -> None:
    if screen.machine or not sys.stdin.isatty() or not typer.confirm(question):
        raise RequestRefused(
            "Nothing was changed.", code="not_confirmed", remedy="Give --yes to go on without a question."
        )


def _show_plan(screen: Screen, steps: Sequence[Step]) -> None:
    for step in steps:
        title = f"{step.stack} in {step.region}"
        if not step.changes:
            screen.say(f"{title}: nothing to change")
        elif step.creates:
            screen.show(blocks.titled(f"{title}: new, {len(step.changes)} resources", _counts(step.changes)))
            if kept := [change.name for change in step.changes if change.action == "Import"]:
                screen.say(f"Taken over with what they hold: {', '.join(kept)}.")
        elif step.goes:
            screen.show(blocks.titled(f"{title}: goes, since the settings do not name it", _table(step.changes)))
        else:
            screen.show(blocks.titled(f"{title}: {len(step.changes)} changes", _table(step.changes)))
    lost = [change for step in steps for change in step.changes if change.loses_data]
    for change in lost:
        if change.replacement == "Conditional":
            remedy = f"It shows only on the way; --may-replace {change.name} lets it go on."
            screen.say(f"Refused: an empty one might stand in place of {change.name}. {remedy}", style="red")
        else:
            screen.say(f"Refused: an empty one would stand in place of {change.name}.", style="red")


def _counts(changes: Sequence[Change]) -> RenderableType:
    listed = blocks.table("type", "number")
    for kind, number in sorted(Counter(change.type for change in changes).items()):
        blocks.add_row(listed, kind, str(number))
    return listed


def _table(changes: Sequence[Change]) -> RenderableType:
    listed = blocks.table("does", "resource", "type", "", "properties")
    for change in changes:
        replaced = _REPLACED.get(change.replacement, Text())
        blocks.add_row(listed, change.action.lower(), change.name, change.type, replaced, ", ".join(change.properties))
    return listed


def _show_deployed(screen: Screen, installation: Installation, made: Deployed) -> None:
    rows = [("API", f"{made.api_url}/v1"), ("tenant", installation.settings.first_tenant)]
    if not made.key:
        rows.append(("admin key", "made before; another one: spotune deploy --new-key"))
    screen.show(
        blocks.facts(
            f"{installation.stage} is deployed" if made.changed else f"{installation.stage} is as it was", rows
        )
    )
    if made.key:
        screen.say("The tenant's admin key is shown this once. The commands here use it so:")
        screen.say(f"  export SPOTUNE_API_URL={made.api_url} SPOTUNE_API_KEY={made.key}")
