"""`models add, base, verify, remove`: base models in the models bucket, with the credentials of whoever keeps it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from spotune.cli import words
from spotune.cli.blocks import Row, add_row, facts, table
from spotune.cli.mirror_place import find_place
from spotune.cli.screen import JsonOption, Screen
from spotune.cli.settings_file import DEFAULT_FILE, SettingsOption
from spotune.contracts.errors import Conflict, RequestRefused
from spotune.local.state import default_home
from spotune.mirror.adding import Offer, look
from spotune.mirror.adding import add as add_model
from spotune.mirror.fetching import Advance
from spotune.mirror.hub import Hub
from spotune.mirror.keeping import check_unused, faults, manifest_of
from spotune.mirror.keeping import remove as remove_model

Name = Annotated[str, typer.Argument(metavar="MODEL", help="A base model's name, as requests spell it.")]
_SHORT = 12
"""Of a commit's hash, as people read it."""


def add(
    name: Annotated[str, typer.Argument(metavar="HF_ID", help="The model's name on the hub: owner/model.")],
    revision: Annotated[str, typer.Option(help="A branch, a tag or a commit; it is pinned to its commit.")] = "main",
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="You have read the model's licence and accept it; it is recorded.")
    ] = False,
    settings: SettingsOption = DEFAULT_FILE,
    json: JsonOption = False,
) -> None:
    """Copy a model from the hub into the models bucket, verified, for jobs that run without a network."""
    screen = Screen(machine=json)
    place = find_place(settings)
    with Hub.from_environment() as hub:
        offer = look(hub, name, revision, default_home() / "cache" / "mirror")
        screen.show(facts(f"{name} for {place.name}", _offer_rows(offer)))
        accepted = accept_licence or _is_agreed(screen, offer)
        with _progress(screen, name, offer.bytes) as advance:
            made = add_model(
                hub, place.bucket, offer, by=place.caller, accepted=accepted, now=time.time(), advance=advance
            )
    screen.emit(made.model_dump(mode="json"))
    screen.say(f"{name} is there at {made.revision[:_SHORT]}: {len(made.files)} files, each hashed. Jobs may name it.")


def base(settings: SettingsOption = DEFAULT_FILE, json: JsonOption = False) -> None:
    """List the base models in the models bucket, with revision and licence."""
    screen = Screen(machine=json)
    found = list(find_place(settings).bucket.manifests())
    screen.emit({"object": "list", "data": [one.model_dump(mode="json") for one in found]})
    listed = table("model", "revision", "parameters", "size", "licence", "accepted by")
    for one in found:
        size = words.size(one.bytes) if one.files else "-"
        licence = one.licence.id if one.licence is not None else ""
        by = one.accepted.by if one.accepted is not None else "-"
        add_row(listed, one.name, one.revision[:_SHORT] or "-", f"{one.parameters:,}", size, licence or "-", by)
    screen.show(listed)


def verify(name: Name, settings: SettingsOption = DEFAULT_FILE, json: JsonOption = False) -> None:
    """Read a base model's files in the bucket and compare each with what was added. Exits 2 where one differs."""
    screen = Screen(machine=json)
    bucket = find_place(settings).bucket
    manifest = manifest_of(bucket, name)
    with _progress(screen, name, manifest.bytes) as advance:
        found = list(faults(bucket, manifest, advance))
    if found:
        raise Conflict(
            f"{name} is not what was added: {'; '.join(found)}.",
            code="base_model_differs",
            param="model",
            remedy="Find out who changed it. `spotune models add` brings the files again; jobs refuse these.",
            details={"faults": found},
        )
    screen.emit({"model": name, "revision": manifest.revision, "files": len(manifest.files), "bytes": manifest.bytes})
    screen.say(f"{name} is what was added: {len(manifest.files)} files, {words.size(manifest.bytes)}.")


def remove(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    settings: SettingsOption = DEFAULT_FILE,
    json: JsonOption = False,
) -> None:
    """Delete a base model with all its revisions. Refused while training jobs read it."""
    screen = Screen(machine=json)
    place = find_place(settings)
    check_unused(place.sagemaker, place.bucket, name)
    if not yes:
        if not _confirmed(screen, f"Delete {name} from {place.name}?"):
            raise RequestRefused(
                "Nothing was deleted.", code="not_confirmed", remedy="Give --yes to delete without a question."
            )
        check_unused(place.sagemaker, place.bucket, name)  # a job may have begun while the question stood
    gone = remove_model(place.bucket, name)
    screen.emit({"model": name, "removed": gone})
    screen.say(f"{name} is gone: {gone} objects.")


def _offer_rows(offer: Offer) -> list[Row]:
    licence = " ".join(filter(None, (offer.licence.id or "the author names none", offer.licence.link)))
    rows = [
        ("commit", offer.at.commit),
        ("files", f"{len(offer.small) + len(offer.weights)}, {words.size(offer.bytes)}"),
        ("licence", _printable(licence) + (", gated" if offer.licence.gated else "")),
    ]
    if offer.left_out:
        more = f" and {len(offer.left_out) - 5} more" if len(offer.left_out) > 5 else ""
        rows.append(("left out", _printable(", ".join(offer.left_out[:5])) + more))
    return rows


def _is_agreed(screen: Screen, offer: Offer) -> bool:
    if not offer.asks:
        return False
    screen.say(f"\n{_printable(offer.text)}\n" if offer.text else "The repository has no text of its licence.")
    return _confirmed(screen, f"Do you accept this licence of {offer.at.name} for this installation?")


def _confirmed(screen: Screen, question: str) -> bool:
    return not screen.machine and sys.stdin.isatty() and typer.confirm(question)


def _printable(text: str) -> str:
    """What strangers wrote, without what a terminal would obey."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


@contextmanager
def _progress(screen: Screen, name: str, size: int) -> Iterator[Advance]:
    """A bar on a terminal; silence elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=screen.console, disable=not screen.live) as bar:
        task = bar.add_task(name, total=size)
        yield lambda count: bar.advance(task, count)
