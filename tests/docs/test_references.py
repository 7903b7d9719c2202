"""The references name every route, command and field, and a page that is out of date is told from a true one."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from pydantic import BaseModel, Field

from handlers.api import app as api
from handlers.openapi import document
from spotune.cli.main import app as commands
from spotune.contracts.request import JobRequest
from spotune.deploy.settings import settings_listed

DOCS = Path(__file__).parents[2] / "docs"


def text(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(DOCS))
    return importlib.import_module(name)


def test_every_route_and_object_of_the_api_has_its_heading() -> None:
    made = json.loads(document(api))
    routes = {f"### `{method.upper()} {path}`" for path, one in made["paths"].items() for method in one}
    assert routes <= set(text("routes.md").splitlines())
    assert "### JobRequest" in text("routes.md")
    assert "HTTPValidationError" not in text("routes.md")


def named(command: Any, path: str = "spotune") -> Iterator[tuple[str, Any]]:
    for name, one in command.commands.items():
        if hasattr(one, "commands"):
            yield from named(one, f"{path} {name}")
        else:
            yield f"{path} {name}", one


def test_every_command_and_option_is_there() -> None:
    sections = text("commands.md").split("\n## `")[1:]
    for name, command in named(typer.main.get_command(commands)):
        (section,) = [one for one in sections if one.startswith((f"{name}`", f"{name} "))]
        for option in command.params:
            if option.opts[0].startswith("-") and not option.hidden:
                assert f"`{option.opts[0]}`" in section


def test_the_page_and_the_readme_name_every_command() -> None:
    names = {name.split()[1] for name, _ in named(typer.main.get_command(commands))}
    for page in (text("cli.md"), (DOCS.parent / "README.md").read_text()):
        said = " ".join(
            re.findall(r"`([^`]*)`", "\n".join(line for line in page.splitlines() if line.startswith("| `")))
        )
        assert names <= set(re.findall(r"[a-z-]+", said))


def test_every_field_of_a_job_is_there_with_what_its_source_says() -> None:
    page = text("fields.md")
    for name in JobRequest.model_fields:
        assert f"| `{name}` |" in page or f"### {name}" in page
    assert (
        "| `constraints.deadline_confidence` | number, at least 0.5, at most 0.999 | `0.95` | The probability" in page
    )


def test_the_page_on_deploying_names_settings_and_errors_that_there_are() -> None:
    """By their form: small words with underscores in backticks stand for nothing else there."""
    prose = re.sub(r"^```.*?^```", "", text("deploying.md"), flags=re.DOTALL | re.MULTILINE)
    said = set(re.findall(r"`((?:[a-z]+\.)?[a-z]+(?:_[a-z]+)+)`", prose))
    codes = set(re.findall(r"^\| `([a-z_]+)`", text("errors.md"), re.MULTILINE))
    assert "further_regions" in said
    assert said - codes - {setting.name for setting in settings_listed()} == set()


class Kept(BaseModel):
    """What a base class says of a field holds in its children."""

    name: str
    """The name."""


class Shown(Kept):
    """A contract."""

    size: int | None = Field(default=None, ge=1, description="Of the whole.")
    sort: list[str] = ["a|b"]
    """A bar | stands in no cell."""


def test_a_contract_is_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = script("schema", monkeypatch)
    lines = schema.table(Shown.model_json_schema(), schema.meanings_of(Shown), str)
    assert lines[2:] == [
        "| `name` | string | required | The name. |",
        "| `size` | integer, at least 1, or null | `null` | Of the whole. |",
        r'| `sort` | list of string | `["a\|b"]` | A bar \| stands in no cell. |',
    ]


def test_a_page_that_is_out_of_date_is_told_from_a_true_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = script("pages", monkeypatch)
    monkeypatch.setattr(pages, "DOCS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["made.py"])
    assert pages.keep("docs/made.py", "true\n") == 0
    monkeypatch.setattr(sys, "argv", ["made.py", "--check"])
    assert pages.keep("docs/made.py", "true\n") == 0
    assert pages.keep("docs/made.py", "else\n") == 1
    assert "run python docs/made.py" in capsys.readouterr().err
    assert (tmp_path / "made.md").read_text() == "true\n"


@pytest.mark.parametrize("name", ["routes", "commands", "fields", "cost"])
def test_a_page_is_what_its_script_writes_whatever_the_hash_seed(name: str) -> None:
    """Sets have no order: a page made in another process must be the same."""
    line = [sys.executable, str(DOCS / f"{name}.py"), "--check"]
    ran = subprocess.run(line, env={"PYTHONHASHSEED": "7", "PATH": ""}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
