"""`spotune-deploy.yaml`: read, checked with its lines, written with its comments, and one value of it replaced."""

from __future__ import annotations

import json
import os
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from spotune.cli.jobfile import JobFile, checked, read_job_file
from spotune.contracts.errors import Conflict, NotFound, RequestRefused
from spotune.deploy.settings import FILE, Setting, Settings, settings_listed

SettingsOption = Annotated[
    Path,
    typer.Option("--settings", metavar="FILE", help="Settings of the installation; `spotune deploy --init` makes one."),
]
"""Of every command that is about one installation."""
DEFAULT_FILE = Path(FILE)

_HEAD = """\
# Settings of one Spotune installation, with their defaults. A line that is left out has its default.
# Another installation in the same account, or elsewhere, has another file with another stage.
"""


def read_settings(path: Path) -> Settings:
    """The settings that a file holds.

    Raises:
        NotFound: there is no such file.
        RequestRefused: it is not YAML, or fields are unknown or wrong; all of them are named, with their lines.
    """
    if not path.exists():
        raise NotFound(
            f"There is no file {path}.",
            code="settings_missing",
            param="--settings",
            remedy="Make one with `spotune deploy --init`, or name yours with --settings.",
        )
    source = read_job_file(path, begin="Begin with `region:`; `spotune deploy --init` writes a whole one.")
    return checked(source, source.body, Settings)


def write_settings(path: Path, region: str) -> None:
    """A new file with every setting, its meaning and its default.

    Raises:
        Conflict: there is a file already.
        RequestRefused: that is no region's name, or the file cannot be written there.
    """
    checked(JobFile("the flags", {}, {}, Path.cwd()), {"region": region}, Settings)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(settings_text(region))
    except FileExistsError:
        raise Conflict(
            f"{path} exists already.",
            code="settings_exist",
            param="--settings",
            remedy="Edit it, or write another one: spotune deploy --init --settings staging.yaml",
        ) from None
    except OSError as error:
        raise RequestRefused(
            f"Cannot write {path}: {error.strerror or error}.",
            code="file_unwritable",
            param="--settings",
            remedy="Name a file in a folder that is there and that you may write to.",
        ) from None


def settings_text(region: str) -> str:
    """What `write_settings` writes."""
    return "\n".join([_HEAD, *_lines(region)]) + "\n"


def replace_setting(path: Path, name: str, value: str) -> None:
    """Give one setting outside the groups another value, and leave every other line as it is.

    Raises:
        NotFound, RequestRefused: as `read_settings`, before and after: no file is left that cannot be read.
    """
    read_settings(path)
    before = path.read_text(encoding="utf-8-sig")
    line = f"{name}: {json.dumps(value)}"
    after, found = re.subn(rf"^{name}:.*$", lambda _: line, before, count=1, flags=re.MULTILINE)
    text = after if found else f"{before.rstrip()}\n{line}\n"
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(text, encoding="utf-8")
        read_settings(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _lines(region: str) -> Iterator[str]:
    for setting in settings_listed():
        *groups, name = setting.name.split(".")
        indent = "  " * len(groups)
        if not groups:
            yield ""
        yield from textwrap.wrap(
            setting.description,
            110,
            initial_indent=f"{indent}# ",
            subsequent_indent=f"{indent}# ",
            break_on_hyphens=False,
        )
        yield f"{indent}{name}:{_value(setting, region)}"


def _value(setting: Setting, region: str) -> str:
    if setting.group or (setting.default is None and not setting.required):
        return ""
    return " " + (region if setting.required else json.dumps(setting.default))
