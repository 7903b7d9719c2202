"""Writes docs/commands.md from the command line itself: each command, each option.

python docs/commands.py            write it
python docs/commands.py --check    exit 1 where it is out of date
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import typer
from pages import keep
from schema import cell

from spotune.cli.main import app

HEAD = """# Commands and options

Made from the command line itself by `python docs/commands.py`; `make check` refuses a page that is out of date. What it
talks to, its files and its exit codes are in [the command line](cli.md).
"""
MARKUP = re.compile(r"\[/?(?:bold|dim|italic|red|green|yellow|cyan)\]")


def page() -> str:
    """The page's text."""
    return "\n".join([HEAD, *_group("spotune", typer.main.get_command(app))]).rstrip() + "\n"


def _group(path: str, group: Any) -> Iterator[str]:
    """Commands of the group itself, then those of groups in it."""
    for name, command in sorted(group.commands.items()):
        if not command.hidden and not hasattr(command, "commands"):
            yield from _command(f"{path} {name}", command)
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from _group(f"{path} {name}", command)


def _command(path: str, command: Any) -> Iterator[str]:
    arguments = [one for one in command.params if not one.opts[0].startswith("-")]
    options = [one for one in command.params if one.opts[0].startswith("-") and not one.hidden]
    usage = " ".join([path, *(_usage(one) for one in arguments)])
    yield from (f"## `{usage}`", "", cell(MARKUP.sub("", command.help or "")), "")
    if rows := [*map(_argument, arguments), *map(_option, options)]:
        yield from ("| | value | default | |", "|---|---|---|---|", *rows, "")
    if command.epilog:
        yield from ("```sh", *command.epilog.removeprefix("Example: ").split(", then: "), "```", "")


def _usage(argument: Any) -> str:
    name = (argument.metavar or argument.name).upper() + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _argument(one: Any) -> str:
    return _row(f"`{_usage(one).strip('[]')}`", one)


def _option(one: Any) -> str:
    return _row(", ".join(f"`{name}`" for name in (*one.opts, *one.secondary_opts)), one)


def _row(name: str, one: Any) -> str:
    flag = getattr(one, "is_flag", False)
    required = "required" if one.required else ""
    default = "" if flag or one.default in (None, "", [], ()) or callable(one.default) else f"`{one.default}`"
    repeated = ", may be repeated" if one.multiple else ""
    return f"| {name} | {'' if flag else _kind(one)}{repeated} | {required or default} | {cell(one.help or '')} |"


def _kind(one: Any) -> str:
    """What an option takes: its metavar, its choices, or its type."""
    kind = one.type_descriptor.annotation
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    if one.metavar:
        return cell(one.metavar)
    names = {str: "text", int: "whole number", float: "number"}
    return names.get(kind, getattr(kind, "__name__", str(kind)).lower())


if __name__ == "__main__":
    sys.exit(keep(__file__, page()))
