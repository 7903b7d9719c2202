"""A whole run where there is no network: from a verified model folder to the published adapter."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spotune.contracts.base_model import BaseModelManifest
from spotune.contracts.training import ManifestFile
from tests.training_container.building import ROOT, report_of

pytestmark = pytest.mark.torch

WATCH = """
import os, sys

def watch(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple) and arguments[1][0] not in ("127.0.0.1", "::1"):
        note(arguments[1][0])
    if event == "socket.getaddrinfo" and arguments[0] not in (None, "", "localhost", "127.0.0.1", "::1"):
        note(arguments[0])

def note(host):
    with open(os.environ["ASKED_FOR"], "a") as file:
        file.write(f"{host}\\n")
    raise OSError(101, "Network is unreachable")

sys.addaudithook(watch)
"""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Processes started from here on find no network, and what they look for is written into this file."""
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCH)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path / "watch"), str(ROOT))))
    monkeypatch.setenv("ASKED_FOR", str(tmp_path / "asked"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # nothing but the files themselves keeps it from asking
    return tmp_path / "asked"


def isolated() -> list[str]:
    """Before a command: takes all networks from it, where the system lets us; Python's own are watched anyhow."""
    for prefix in (["unshare", "--net"], ["unshare", "--net", "--map-root-user"]):
        if shutil.which("unshare") and subprocess.run([*prefix, "true"], capture_output=True).returncode == 0:
            return prefix
    return []


def test_whoever_looks_for_a_network_is_noticed(asked: Path) -> None:
    script = "import urllib.request; urllib.request.urlopen('http://hub.example.com')"
    assert subprocess.run([*isolated(), sys.executable, "-c", script], capture_output=True).returncode != 0
    assert asked.read_text() == "hub.example.com\n"


def test_a_run_needs_nothing_but_its_folders(root: Callable[..., Path], asked: Path, model: Path) -> None:
    files = tuple(
        ManifestFile(name=path.name, bytes=path.stat().st_size, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
        for path in model.iterdir()
    )
    manifest = BaseModelManifest(name="tiny/llama", parameters=1, files=files)
    made = root(model_sha256=manifest.sha256, trackers=[{"type": "tensorboard"}])
    channel = made / "input" / "data" / "model"
    channel.unlink()
    shutil.copytree(model, channel)
    (channel / "spotune.json").write_text(manifest.model_dump_json())
    command = [*isolated(), sys.executable, "-m", "training_container"]
    environment = {**os.environ, "SPOTUNE_ML_ROOT": str(made), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert report_of(made).best_step > 0
    assert not asked.exists(), f"it looked for {asked.read_text()}"
