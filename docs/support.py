"""Writes docs/support.md from the tests: which of them proves which method, objective and sharding.

python docs/support.py            write it
python docs/support.py --check    exit 1 where it is out of date

A test says what it proves with a mark, several where it proves several things:

    @pytest.mark.proves(method="dora", objective="dpo", sharding="zero2", quantization="nf4")

A word that the mark leaves out is the test's parameter of that name, else `DEFAULTS`. So this one proves three methods:

    @pytest.mark.proves()
    @pytest.mark.parametrize("method", ["lora", "dora", "ia3"])

To prove is to train with the combination for real and to fail where it does not learn what it should.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest
from pages import keep

from spotune.contracts.plan import Sharding
from spotune.contracts.request import Method, Objective, Quantization

ROOT = Path(__file__).resolve().parents[1]
TESTS = ("tests/training_container", "tests/embedded")
WORDS = {"method": Method, "objective": Objective, "sharding": Sharding, "quantization": Quantization}
DEFAULTS = {"method": "lora", "objective": "supervised", "sharding": "none", "quantization": "none"}
HEAD = """# What is trained, and which test shows it

Made from the marks of the tests by `python docs/support.py`; `make check` refuses a page that is out of date. Each
number stands for a file of tests, which train with that method, objective and sharding for real, on a CPU and with tiny
models unless the file says otherwise; behind it stands the quantization of the base model, where there is one. An empty
cell is a combination that no test trains with.
"""


@dataclass(frozen=True, order=True)
class Proof:
    """One combination that one file's tests train with."""

    method: str
    objective: str
    sharding: str
    quantization: str
    file: str


class Collector:
    """A plugin of pytest's that reads the marks of whatever is collected."""

    def __init__(self) -> None:
        self.proofs: set[Proof] = set()

    def pytest_collection_modifyitems(self, items: list[pytest.Function]) -> None:
        """pytest's hook."""
        self.proofs = {proof for item in items for proof in _proofs(item)}


def _proofs(item: pytest.Function) -> Iterator[Proof]:
    given = item.callspec.params if hasattr(item, "callspec") else {}
    for mark in item.iter_markers("proves"):
        said = {name: mark.kwargs.get(name, given.get(name, DEFAULTS[name])) for name in WORDS}
        wrong = {name: word for name, word in said.items() if word not in get_args(WORDS[name])}
        if mark.args or wrong or mark.kwargs.keys() - WORDS.keys():
            raise pytest.UsageError(f"{item.nodeid}: the mark proves takes words of the contract, not {mark} {wrong}")
        yield Proof(**said, file=item.path.relative_to(ROOT).as_posix())


def collect() -> set[Proof]:
    """What the tests prove.

    Raises:
        RuntimeError: they cannot be collected; carries pytest's words.
    """
    collector, said = Collector(), io.StringIO()
    folders = (str(ROOT / name) for name in TESTS)
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = pytest.main(["--collect-only", "-p", "no:cacheprovider", *folders], [collector])
    if code != pytest.ExitCode.OK:
        raise RuntimeError(said.getvalue()[-2000:])
    return collector.proofs


def page(proofs: set[Proof]) -> str:
    """The page's text."""
    numbers = {file: number for number, file in enumerate(sorted({proof.file for proof in proofs}), 1)}
    cells: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for proof in sorted(proofs):
        quantized = "" if proof.quantization == "none" else f" {proof.quantization}"
        link = f"[{numbers[proof.file]}](../{proof.file}){quantized}"
        cells[proof.objective, proof.method, proof.sharding].append(link)
    tables = [line for objective in get_args(Objective) for line in _table(objective, cells)]
    files = (f"{number}. `{file}`" for file, number in numbers.items())
    return "\n".join([HEAD, *tables, "## Files", "", *files, ""])


def _table(objective: str, cells: dict[tuple[str, str, str], list[str]]) -> Iterator[str]:
    shardings = get_args(Sharding)
    yield from (f"## {objective}", "", f"| method | {' | '.join(shardings)} |", "|---" * (len(shardings) + 1) + "|")
    for method in get_args(Method):
        yield f"| {method} | {' | '.join(', '.join(cells[objective, method, one]) for one in shardings)} |"
    yield ""


if __name__ == "__main__":
    sys.exit(keep(__file__, page(collect())))
