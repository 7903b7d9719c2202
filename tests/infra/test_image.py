"""The training image has what the trainer imports, as the tests run with it."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("training_container", "spotune/contracts", "spotune/data")
REQUIREMENTS = ROOT / "training_container" / "requirements.txt"
ON_CUDA = ROOT / "training_container" / "requirements-cuda.txt"


def pinned(path: Path) -> dict[str, str]:
    """Normalised name and version of each line."""
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return {normal(name): version for name, _, version in (line.partition("==") for line in lines if line)}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(path: Path) -> Iterator[str]:
    """Top-level names, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def test_every_library_that_the_trainer_imports_is_in_the_image_by_name() -> None:
    ours = {"training_container", "spotune"}
    names = {name for room in ROOMS for path in (ROOT / room).rglob("*.py") for name in imported(path)}
    distributions = metadata.packages_distributions()
    missing = {
        name
        for name in names - ours - set(sys.stdlib_module_names)
        if not {normal(one) for one in distributions.get(name, (name,))} & {*pinned(REQUIREMENTS), *pinned(ON_CUDA)}
    }
    assert missing == set()


def test_the_image_has_the_versions_that_the_tests_run_with() -> None:
    known = pinned(ROOT / "constraints.txt")
    assert {name: version for name, version in pinned(REQUIREMENTS).items() if known.get(name) != version} == {}


def test_the_image_has_the_rooms_that_the_trainer_stands_on_and_no_others() -> None:
    copied = re.findall(r"^COPY (\S+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert set(copied) == {*ROOMS, *(str(path.relative_to(ROOT)) for path in (REQUIREMENTS, ON_CUDA))}


def test_the_trainer_is_process_one_so_that_it_hears_sigterm() -> None:
    assert 'ENTRYPOINT ["python", "-m", "training_container"]' in (ROOT / "Dockerfile").read_text().splitlines()
