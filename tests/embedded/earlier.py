"""Earlier versions of what is deployed, out of this repository's own history: what an update begins with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from spotune.deploy.bundle import OWN_ROOMS
from spotune.local.state import StackState

ROOT = Path(__file__).resolve().parents[2]
DEPLOYED = (*(f"spotune/{room}" for room in OWN_ROOMS), "handlers", "infra/template.yaml")
"""What makes a version another one in the account."""
LAID_OUT = ("spotune", "handlers", "infra")
VARIABLE = "SPOTUNE_UPGRADE_FROM"
"""A revision to begin with, instead of the one that was deployed before this one."""


_ADD = """
import json, pathlib, sys, types
from spotune.local.models import add_base_model
state, folder, name = json.loads(sys.argv[1])
state["home"] = pathlib.Path(state["home"])
add_base_model(types.SimpleNamespace(**state), pathlib.Path(folder), name)
"""


@dataclass(frozen=True, slots=True)
class Earlier:
    """An earlier version's files."""

    revision: str
    folder: Path

    @property
    def template(self) -> Path:
        """Its own template."""
        return self.folder / "infra" / "template.yaml"

    @property
    def parameters(self) -> frozenset[str]:
        """That its template takes."""
        return frozenset(_document(self.template)["Parameters"])

    def add_base_model(self, state: StackState, folder: Path, name: str) -> None:
        """As its own code puts one into the models bucket, which later versions have to find there."""
        given = state.model_dump(mode="json"), str(folder), name
        # What is in the folder that it is started in goes before what is installed.
        subprocess.run([sys.executable, "-c", _ADD, json.dumps(given)], cwd=self.folder, check=True)


def earlier_version(folder: Path) -> Earlier:
    """The version before this one, laid out in a folder.

    A clone without that much history fails here, since a test that is left out in silence protects nobody. Files that
    are no clone at all have no earlier version.
    """
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no clone of the repository, so no earlier version of it to update from")
    revision = os.environ.get(VARIABLE) or _before_this_one()
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", revision, *LAID_OUT], capture_output=True, check=False)
    if archive.returncode != 0:
        pytest.fail(f"{revision} is not in this clone: {archive.stderr.decode().strip()}. Run git fetch --unshallow.")
    (folder / "earlier.tar").write_bytes(archive.stdout)
    with tarfile.open(folder / "earlier.tar") as tar:
        tar.extractall(folder, filter="data")
    return Earlier(revision, folder)


def _before_this_one() -> str:
    """The last commit whose deployed files are others than those that lie here."""
    commits = _git("log", "-n", "2", "--format=%H", "--", *DEPLOYED).split()
    if not commits:
        pytest.fail("this clone's history tells nothing of what is deployed. Run git fetch --unshallow.")
    as_committed = not _git("status", "--porcelain", "--", *DEPLOYED)
    if not as_committed:
        return commits[0]
    if len(commits) < 2:
        pytest.fail(f"this clone ends before the earlier version. Run git fetch --unshallow, or set {VARIABLE}.")
    return commits[1]


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(ROOT), *arguments], capture_output=True, check=True, text=True
    ).stdout.strip()


def _document(template: Path) -> dict[str, Any]:
    class Loader(yaml.SafeLoader):
        """CloudFormation's tags are of no interest here."""

    Loader.add_multi_constructor("!", lambda *_: None)
    found: dict[str, Any] = yaml.load(template.read_text(), Loader)
    return found
