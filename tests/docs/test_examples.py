"""What the documents show is run: their commands, files and rows, as far as they need no AWS account.

How a block is marked stands in tests/docs/blocks.py. Here run those without a mark, those against the API in this
process, and each example of the reference by itself; test_tutorial.py runs those against the embedded stack. What no
example runs names a test that does, or is only parsed.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from spotune.cli.main import app
from spotune.contracts import layout
from spotune.contracts.request import JobRequest
from spotune.contracts.rules import RuleRequest
from spotune.data.golden_checks import check_golden
from spotune.retraining.course import Ending
from tests import tiny_model
from tests.cli.conftest import Run, Service
from tests.docs.blocks import (
    ELSEWHERE,
    INLINE,
    NAMED_TEST,
    ONLY_PARSED,
    PAGES,
    ROOT,
    Block,
    blocks,
    reason_not_to_run,
)
from tests.docs.test_security import functions_of
from tests.handlers.test_rules import end, lands
from tests.service.registered import finished, registered

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
JOB_FILES = ROOT / "examples" / "support_routing"
REFERENCE = ROOT / "docs" / "commands.md"
JOB = "ftjob-..."
RULE = "file rule.yaml"
ALL = [block for page in PAGES for block in blocks(page)]
OFFLINE = frozenset({"plan", "estimate", "compare-methods", "catalog", "data"})
"""Commands of spotune's that need nothing but this machine."""
PLAIN = frozenset({"cp", "head", "mkdir", "cat", "ls", "cd"})
COMMANDS = typer.main.get_command(app)
TOLD = re.compile(r"\bspotune (?!spotune )[a-z](?:(?!\bspotune )[^`\n])*")
"""A command in a string of the code, up to the next one."""
SEED = "spotune webhook"
"""Of webhooks' secrets: no command."""


def marked(*marks: str) -> list[Any]:
    return [pytest.param(block, id=str(block)) for block in ALL if block.mark in marks]


def fits(words: list[str]) -> None:
    """Raise where the command line has no such command, option or argument."""
    command: Any = COMMANDS
    path = ["spotune"]
    rest = words[1:]
    while rest and hasattr(command, "commands"):
        assert rest[0] in command.commands, f"no command {rest[0]!r} in {' '.join(path)}"
        command = command.commands[rest[0]]
        path.append(rest.pop(0))
    if "--help" not in rest and path != ["spotune"]:
        command.make_context(path[-1], rest)


@pytest.mark.parametrize("block", [pytest.param(one, id=str(one)) for one in ALL if one.commands])
def test_every_command_line_fits_the_command_line(block: Block) -> None:
    for words in block.commands:
        if words[0] == "spotune":
            fits(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_options_that_a_text_names_are_there(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for said in INLINE.findall(text):
        are_there(said)


@pytest.mark.parametrize("room", ["spotune", "handlers", "training_container"])
def test_commands_and_options_that_the_code_tells_a_person_are_there(room: str) -> None:
    """Remedies, hints and examples, wherever they are written."""
    told = [said for path in (ROOT / room).rglob("*.py") for text in texts(path) for said in TOLD.findall(text)]
    assert told
    for said in set(told) - {SEED}:
        are_there(said)


def are_there(said: str) -> None:
    """Raise where the command line has no such command or option."""
    command = COMMANDS
    for word in (word.rstrip(",;.)") for word in said.split()[1:]):
        if not hasattr(command, "commands") or not re.fullmatch(r"[a-z-]+", word):
            break
        assert word in command.commands, f"{said}: no command {word!r}"
        command = command.commands[word]
    options = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    assert set(re.findall(r"--[a-z][a-z-]*", said)) <= options | {"--help", "--version"}, said


def texts(path: Path) -> Iterator[str]:
    """Every string of a module; what an f-string puts in stands as X."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else " X " for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.value


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_command_hides_in_a_block_that_nothing_runs(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    hidden = re.findall(r"^    ((?:spotune|make|pip|python|aws|kubectl|export) \S.*)$", text, re.MULTILINE)
    assert hidden == [], "write it as a block of sh"
    for block in blocks(page):
        if block.language in ("", "text"):
            assert not re.search(r"^\$? ?(spotune|aws|make) ", block.text, re.MULTILINE), f"{block}: write it as sh"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a page's commands run: the example job, and the repository's examples by their path."""
    made = tmp_path / "page"
    shutil.copytree(JOB_FILES, made, ignore=shutil.ignore_patterns("*.md", "*.py", "*.toml"))
    (made / "examples").symlink_to(ROOT / "examples")
    (made / "build").mkdir()
    monkeypatch.chdir(made)
    return made


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_pages_commands_for_this_machine_run(page: Path, folder: Path, run: Run) -> None:
    for block in blocks(page):
        if block.mark.startswith("file "):
            (folder / block.mark.removeprefix("file ")).write_text(block.text)
        if block.mark or page == REFERENCE:
            continue
        for words in block.commands:
            run_here(block, words, run)


def run_here(block: Block, words: list[str], run: Run) -> None:
    if reason_not_to_run(words):
        return
    if words[0] in PLAIN:
        subprocess.run(" ".join(words), shell=True, check=True)
        return
    assert words[0] == "spotune", f"{block}: {words[0]} has no mark and no reason in blocks.ELSEWHERE"
    assert words[1] in OFFLINE, f"{block}: `spotune {words[1]}` needs an API: mark the block"
    assert run(*words[1:]).code == 0, block


@pytest.mark.parametrize("block", [pytest.param(one, id=str(one)) for one in ALL if one.language == "python"])
def test_python_for_this_machine_runs(block: Block, folder: Path) -> None:
    compile(block.text, str(block), "exec")
    if not block.mark:
        ran = subprocess.run([sys.executable, "-c", block.text], capture_output=True, text=True, env=with_spotune())
        assert ran.returncode == 0, ran.stderr


def with_spotune() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


class Api:
    """A session with the API: what it is told stands for the reader's own ids and names."""

    def __init__(self, service: Service, run: Run, folder: Path) -> None:
        self.service, self.run, self.folder = service, run, folder
        prefix = layout.base_model_uri("models", MODEL)
        for name, body in tiny_model.files().items():
            service.world.objects.write(prefix + name, body)

    def submit(self) -> None:
        assert self.run("submit", "job.yaml").code == 0

    def group(self) -> None:
        """Version 3 of `support` is champion after 2 and 1, and 4 waits for a person."""
        champion = None
        for number in (1, 2, 3, 4):
            decision = "hold" if number == 4 else "promote"
            version = registered(self.service.world, number, decision, group="support", champion=champion)
            champion = version.name if decision == "promote" else champion

    def paused(self) -> None:
        self.submit()
        self.do(["spotune", "pause", JOB])
        self.service.world.run_queue()

    def succeeded(self) -> None:
        finished(self.service.world, 1)

    def rule(self) -> None:
        (page,) = (block for block in blocks(ROOT / "docs" / "rules.md") if block.mark == RULE)
        self.write(page)
        assert self.run("rules", "create", "rule.yaml").code == 0

    def new_data(self) -> None:
        self.rule()
        lands(self.service.world, self._newest("rules"))

    def rejected(self) -> None:
        """The model of the rule's first retraining."""
        self.new_data()
        assert self.run("rules", "fire", "support").code == 0
        end(self.service.world, self._newest("rules"), Ending("succeeded", "", "reject", 1_000_000))

    def webhook(self) -> None:
        assert self.run("webhooks", "create", "https://hooks.example.com/spotune").code == 0

    def cached(self) -> None:
        """The model's tokenizer, on this machine."""
        base = Path(os.environ["SPOTUNE_HOME"]) / "cache" / "models" / MODEL
        base.mkdir(parents=True)
        for name, body in tiny_model.files().items():
            (base / name).write_bytes(body)

    def write(self, block: Block) -> None:
        """The file that a block is. The memory's data bucket is called `data`."""
        (self.folder / block.mark.removeprefix("file ")).write_text(block.text.replace("acme-data", "data"))

    def do(self, words: list[str]) -> None:
        line = [self._stands_for(word) for word in words[1:] if word != "--wait"]
        if line[0] == "retry":
            self.run("cancel", line[1])
            self.service.world.run_queue()
        ran = self.run(*line)
        assert ran.code == 0, f"{' '.join(words)}: {ran.err}{ran.out}"

    def _stands_for(self, word: str) -> str:
        listed = {JOB: (), "we_...": ("webhooks",), "key-...": ("keys",)}
        return self._newest(*listed[word]) if word in listed else word

    def _newest(self, *group: str) -> str:
        return str(self.run(*group, "list", "--json").json["data"][0]["id"])


BEFORE: dict[str, Callable[[Api], None]] = {
    "docs/models.md": Api.group,
    "docs/quality.md": Api.submit,
}
"""What is there before a page's commands."""


@pytest.mark.parametrize("page", sorted({block.page for block in ALL if block.mark == "api"}), ids=lambda one: one.name)
def test_a_pages_commands_against_the_api_run(page: Path, folder: Path, service: Service, run: Run) -> None:
    api = Api(service, run, folder)
    BEFORE.get(str(page.relative_to(ROOT)), lambda _: None)(api)
    for block in blocks(page):
        if block.mark.startswith("file "):
            api.write(block)
        if block.mark == "api":
            for words in block.commands:
                api.do(words)


BEFORE_A_COMMAND: dict[str, Callable[[Api], None]] = {
    **dict.fromkeys(("cancel", "explain", "pause", "retry", "show", "data pull", "data quality"), Api.submit),
    **dict.fromkeys(("data check", "data preview"), Api.cached),
    **dict.fromkeys(("logs", "watch"), Api.succeeded),
    "resume": Api.paused,
    "models": Api.group,
    "rules": Api.rule,
    "rules fire": Api.new_data,
    "rules release": Api.rejected,
    "webhooks": Api.webhook,
}
"""What is there before a command of the reference; of two names that fit the longer one."""


def of_the_reference() -> Iterator[Any]:
    """Its command lines but those that run somewhere else alone."""
    for block in blocks(REFERENCE):
        for words in block.commands:
            if not reason_not_to_run(words):
                yield pytest.param(words, id=f"{block}: {' '.join(words)}")


@pytest.mark.parametrize("words", list(of_the_reference()))
def test_an_example_of_the_reference_runs(words: list[str], folder: Path, service: Service, run: Run) -> None:
    api = Api(service, run, folder)
    fitting = [name for name in BEFORE_A_COMMAND if words[1:][: len(name.split())] == name.split()]
    for name in sorted(fitting, key=len)[-1:]:
        BEFORE_A_COMMAND[name](api)
    api.do(words)


def objects(block: Block) -> Iterator[Any]:
    """The JSON of a block: one object, or one a line."""
    try:
        yield json.loads(block.text)
    except json.JSONDecodeError:
        yield from (json.loads(line) for line in block.text.splitlines())


@pytest.mark.parametrize("block", [pytest.param(one, id=str(one)) for one in ALL if one.language in ("json", "yaml")])
def test_json_and_yaml_can_be_read(block: Block) -> None:
    assert list(objects(block) if block.language == "json" else yaml.safe_load_all(block.text))


@pytest.mark.parametrize("block", marked("job", "rule"))
def test_a_request_is_one(block: Block) -> None:
    body = yaml.safe_load(block.text)
    if block.mark == "rule":
        RuleRequest.model_validate(body)
    else:
        JobRequest.model_validate({"model": MODEL, "training_file": "file-1", **body})


@pytest.mark.parametrize("block", marked("rows", "rows dpo", "rows kto"))
def test_rows_are_rows(block: Block, tmp_path: Path, run: Run) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(block.text)
    checked = run("data", "check", file, "--objective", block.mark.removeprefix("rows").strip() or "supervised")
    assert checked.code == 0, checked.out


@pytest.mark.parametrize("block", marked("golden"))
def test_golden_prompts_are_some(block: Block) -> None:
    report = check_golden([block.text.encode()], uri="golden.jsonl", tokenizer=None, max_length=1024)
    assert report.fault_count == 0


UNRUN = {
    **ELSEWHERE,
    **{str(block): block.mark.removeprefix("not run, ") for block in ALL if block.mark.startswith("not run, ")},
}


@pytest.mark.parametrize("where", UNRUN)
def test_what_no_example_runs_has_a_test_or_says_that_it_is_only_parsed(where: str) -> None:
    named = NAMED_TEST.findall(UNRUN[where])
    assert bool(named) != UNRUN[where].endswith(ONLY_PARSED)
    assert [name for path, name in named if name not in functions_of(ROOT / path)] == []


def test_no_command_is_excused_that_no_document_shows() -> None:
    shown = [words for block in ALL if not block.mark.startswith("not run, ") for words in block.commands]
    assert [name for name in ELSEWHERE if not any(words[: len(name.split())] == name.split() for words in shown)] == []


def test_a_target_of_make_is_there() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {words[1] for block in ALL for words in block.commands if words[0] == "make"}
    assert {"setup", "test"} <= named <= targets


def test_every_mark_is_known() -> None:
    known = {"", "api", "stack", "job", "rule", "rows", "rows dpo", "rows kto", "golden"}
    said = {block.mark for block in ALL if not block.mark.startswith(("file ", "not run, "))}
    assert said <= known
