"""Where words go: people read tables and lines, programs read JSON on stdout and nothing else."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Annotated

import typer
from rich.console import Console, RenderableType
from rich.text import Text

PIPE_WIDTH = 160
"""Columns of a table that goes into a pipe or a file, where nothing is there to fit."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else.")]


class Screen:
    """One command's output.

    `show` and `say` are for people and silent under `--json`; `emit` and `emit_line` are for programs and silent
    without it. `note` is an aside for people, on stderr.
    """

    def __init__(self, *, machine: bool = False) -> None:
        self.machine = machine
        self.console = Console(file=sys.stdout, width=_width(sys.stdout.isatty()), highlight=False)
        self._aside = Console(file=sys.stderr, width=_width(sys.stderr.isatty()), highlight=False)

    @property
    def live(self) -> bool:
        """True where a moving bar makes sense: a person's terminal that can move its cursor."""
        return not self.machine and self.console.is_terminal and not self.console.is_dumb_terminal

    @property
    def colours(self) -> bool:
        """True where a colour can be seen: on a terminal that has any and whose user did not set NO_COLOR."""
        return self.console.is_terminal and self.console.color_system is not None and not self.console.no_color

    def show(self, thing: RenderableType) -> None:
        """A table or panel."""
        if not self.machine:
            self.console.print(thing)

    def say(self, text: str = "", *, style: str | None = None) -> None:
        """A line of plain text, which only a terminal breaks; brackets in it are just brackets."""
        if not self.machine:
            self.console.print(text, style=style, markup=False, soft_wrap=not self.console.is_terminal)

    def note(self, text: str) -> None:
        """An aside on stderr."""
        if not self.machine:
            self._aside.print(text, markup=False, soft_wrap=True, style="dim")

    def emit(self, answer: object) -> None:
        """The command's one JSON document."""
        if self.machine:
            print(json.dumps(answer, indent=2))

    def emit_line(self, answer: object) -> None:
        """One of several JSON documents, a line each, at once."""
        if self.machine:
            print(json.dumps(answer), flush=True)


def print_error(message: str, body: Mapping[str, object], *, machine: bool) -> None:
    """An error on stderr: the API's error object under `--json`, its message otherwise."""
    if machine:
        print(json.dumps(body), file=sys.stderr)
        return
    console = Console(file=sys.stderr, width=_width(sys.stderr.isatty()), highlight=False)
    console.print(Text.assemble(("Error: ", "bold red"), message), soft_wrap=not console.is_terminal)


def _width(terminal: bool) -> int | None:
    return None if terminal or "COLUMNS" in os.environ else PIPE_WIDTH
