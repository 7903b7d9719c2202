"""`up, status, down, reset`: embedded mode on this machine."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from spotune.cli import blocks, words
from spotune.cli.screen import JsonOption, Screen
from spotune.contracts.errors import RequestRefused
from spotune.local import stack
from spotune.local.state import DEFAULT_DOUBLE_PORT, DEFAULT_EMULATOR_PORT, StackState, default_home

STOPPED = 5
"""Exit code of `status` where the stack does not answer: as of any command that needs it."""


_DOWN = (
    "Embedded mode is down. Everything is kept: with the next `spotune up`, a job that ran goes on from its newest "
    "checkpoint, as after an interruption."
)


def up(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the API and the emulator; 0 takes a free one.")] = (
        DEFAULT_EMULATOR_PORT
    ),
    double_port: Annotated[int, typer.Option(min=0, max=65535, help="Of the SageMaker double; 0 takes a free one.")] = (
        DEFAULT_DOUBLE_PORT
    ),
    guarded: Annotated[
        bool, typer.Option("--guarded", help="Check signatures and the template's policies, as AWS does.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Start embedded mode: the whole service on 127.0.0.1, no AWS account needed. Does nothing where it runs."""
    screen = Screen(machine=json)
    began = time.monotonic()
    state = stack.up(emulator_port=port, double_port=double_port, guarded=guarded or None)
    screen.emit(_addresses(state))
    screen.show(blocks.facts("Embedded mode is up", _rows(state)))
    screen.say(
        f"Ready in {time.monotonic() - began:.1f} s. The commands here find it by themselves. End it: spotune down"
    )


def status(json: JsonOption = False) -> int:
    """Say whether embedded mode runs, where, and what it holds in memory. Exits 5 where it does not."""
    screen = Screen(machine=json)
    found = stack.status()
    parts = [
        {"name": part.name, "pid": part.pid, "running": part.running, "resident_bytes": part.resident_bytes}
        for part in found.parts
    ]
    addresses = _addresses(found.state) if found.state else None
    screen.emit({"running": found.running, "problem": found.problem, "stack": addresses, "parts": parts})
    if found.running and found.state:
        screen.show(blocks.facts("Embedded mode is up", _rows(found.state)))
    else:
        screen.say(f"Embedded mode is not up. {found.problem}")
    if found.parts:
        listed = blocks.table("part", "pid", "runs", "memory")
        for part in found.parts:
            blocks.add_row(
                listed, part.name, str(part.pid), "yes" if part.running else "no", words.size(part.resident_bytes)
            )
        screen.show(listed)
    return 0 if found.running else STOPPED


def down(json: JsonOption = False) -> None:
    """End embedded mode. Jobs, files and models are kept for the next `up`."""
    screen = Screen(machine=json)
    ended = stack.down()
    screen.emit({"ended": ended})
    screen.say(_DOWN if ended else "Embedded mode was not up.")


def reset(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """End embedded mode and delete its jobs, files and keys. Downloaded adapters and cached models stay."""
    screen = Screen(machine=json)
    if not yes and not _confirmed(screen):
        raise RequestRefused(
            "Nothing was deleted.", code="not_confirmed", remedy="Give --yes to delete without a question."
        )
    stack.reset()
    screen.emit({"reset": True})
    screen.say(f"Embedded mode is empty. Adapters are kept in {default_home() / 'adapters'}.")


def _confirmed(screen: Screen) -> bool:
    if screen.machine or not sys.stdin.isatty():
        return False
    return typer.confirm("Delete all jobs, files and keys of embedded mode?")


def _addresses(state: StackState) -> dict[str, object]:
    return {
        "api_url": state.api_url,
        "api_key": state.api_key,
        "emulator_url": state.emulator_url,
        "double_url": state.double_url,
        "home": str(state.home),
        "started_at": state.started_at,
    }


def _rows(state: StackState) -> list[blocks.Row]:
    return [
        ("API", f"{state.api_url}/v1"),
        ("key", state.api_key),
        ("AWS emulator", state.emulator_url),
        ("SageMaker double", state.double_url),
        ("state", str(state.home)),
    ]
