"""SECURITY.md: each threat that it has to name has controls, and each control's tests are there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SECURITY.md").read_text()
LINK = re.compile(r"\[`(test_\w+)`\]\((tests/[\w/]+\.py)\)")
THREATS = {
    "another tenant": "A tenant reaches",
    "another stage": "A stage reaches",
    "a leaked key": "A key is leaked",
    "a poisoned dataset": "A dataset is poisoned",
    "a malicious model file": "A model file is malicious",
    "cost abuse": "Somebody spends",
    "SSRF": "A URL leads inside (SSRF)",
    "the supply chain": "Something comes in by the supply chain",
    "readers of logs": "Somebody reads the logs",
}


@cache
def functions_of(path: Path) -> set[str]:
    """Names of a module's test functions, those in classes too."""
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def rows(section: str) -> list[str]:
    """The lines of a section's table, without its head."""
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return lines[2:]


SECTIONS = {part.splitlines()[0]: part for part in TEXT.split("\n### ")[1:]}


@pytest.mark.parametrize("threat", THREATS)
def test_a_threat_has_controls_and_each_of_them_has_a_test(threat: str) -> None:
    (section,) = (part for title, part in SECTIONS.items() if title.startswith(THREATS[threat]))
    controls = rows(section.partition("\n## ")[0])
    assert len(controls) >= 3
    assert [line for line in controls if not LINK.search(line)] == []


@pytest.mark.parametrize(("name", "path"), sorted(set(LINK.findall(TEXT))), ids=lambda part: str(part))
def test_a_test_that_is_named_is_there(name: str, path: str) -> None:
    assert name in functions_of(ROOT / path)


def test_every_test_that_is_named_is_linked() -> None:
    named = set(re.findall(r"`(test_\w+)`", TEXT))
    assert named == {name for name, _ in LINK.findall(TEXT)}


def test_no_threat_is_named_that_nobody_looks_for() -> None:
    assert len(SECTIONS) == len(THREATS)
