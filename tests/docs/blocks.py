"""The examples of the documents: fenced blocks, each with the mark that says how it is proven.

A mark is a comment before the block, which no reader sees:

    <!-- example: file job.yaml -->    the block is that file, in the page's folder, for the blocks after it
    <!-- example: api -->              commands against the API, its handlers in this process and AWS in memory
    <!-- example: stack -->            commands or Python against the embedded stack, with training for real
    <!-- example: job -->              a request; also `rule`, `rows`, `rows dpo`, `golden`: checked as what it is
    <!-- example: not run, WHY -->     what can run nowhere but elsewhere

Commands without a mark run on this machine alone, each page in a folder that has the example job's files.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").rglob("*.md"),
        *ROOT.glob("*.md"),
        *(ROOT / "benchmarks").rglob("*.md"),
    ]
)
SHELLS = frozenset({"sh", "bash", "shell", "console"})
FENCE = re.compile(
    r"(?:^<!-- example: (?P<mark>[^\n]*?) -->\n\n?)?^```(?P<language>[\w+-]*)[^\n]*\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
INLINE = re.compile(r"`(spotune [^`\n]+)`")
ELSEWHERE = {
    "aws": "asks an AWS account",
    "kubectl": "asks a cluster",
    "docker": "asks Docker's daemon",
    "git": "is the reader's own repository",
    "make": "is what CI runs",
    "pip": "changes the environment",
    "hf": "asks the hub",
    "export": "is the reader's own shell",
    "python": "has tests of its own (tests/examples, tests/training_container)",
    "spotune deploy": "asks an AWS account; tests/deploy has an emulated one",
    "spotune destroy": "asks an AWS account; tests/deploy has an emulated one",
    "spotune doctor": "asks an AWS account; tests/deploy has an emulated one",
    "spotune image": "asks a builder of images or an AWS account; make image-test has both",
    "spotune models add": "asks the hub; tests/mirror has one of its own",
    "spotune demo": "has tests of its own (tests/cli/test_demo.py)",
    "spotune status": "looks at the reader's own machine",
    "spotune up": "the tests start a stack of their own",
    "spotune down": "the tests end their stack themselves",
    "spotune reset": "the tests end their stack themselves",
}
"""Commands that no example runs here, with the reason."""


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    """Of its first line of text."""
    language: str
    mark: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """Its command lines, as words, without comments and what they set in the environment."""
        if self.language not in SHELLS:
            return []
        joined = self.text.replace("\\\n", " ").replace("$ ", "", 1) if self.language == "console" else None
        lines = (joined or self.text.replace("\\\n", " ")).splitlines()
        return [words for line in lines if (words := _words(line))]


def _words(line: str) -> list[str]:
    words = shlex.split(line, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    return words


def blocks(page: Path) -> Iterator[Block]:
    """Those of a page, in its order."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start("text")) + 1
        yield Block(page, line, found["language"], found["mark"] or "", found["text"])


def reason_not_to_run(words: list[str]) -> str | None:
    """Why a command runs in no example; None where it does."""
    return next((why for name, why in ELSEWHERE.items() if words[: len(name.split())] == name.split()), None)
