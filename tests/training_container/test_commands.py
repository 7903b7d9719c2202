"""The two small commands: making the demo's base model, and chatting."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training_container.building import ROOT as REPOSITORY
from training_container import chat

pytestmark = pytest.mark.torch

COMMIT = "a" * 40


def make_base_model(out: Path, cache: Path, name: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(REPOSITORY)}
    environment.pop("HF_HUB_CACHE", None)
    command = [sys.executable, "-m", "training_container.base_model", "--out", str(out), "--name", name]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def cache(tmp_path: Path, model: Path) -> Path:
    """The hub's cache with the tiny model in it."""
    repository = tmp_path / "cache" / "hub" / "models--tiny--llama"
    shutil.copytree(model, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return tmp_path / "cache"


def test_a_model_in_the_hubs_cache_becomes_a_complete_folder_once(tmp_path: Path, cache: Path) -> None:
    out = tmp_path / "base" / "llama"
    made = make_base_model(out, cache, "tiny/llama")
    assert made.returncode == 0, made.stderr
    marker = json.loads((out / "spotune.json").read_text())
    assert (marker["name"], marker["revision"]) == ("tiny/llama", COMMIT)
    assert marker["parameters"] > 10_000
    assert {path.name for path in out.iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert [path.name for path in out.parent.iterdir()] == ["llama"]
    assert json.loads(make_base_model(out, cache, "tiny/llama").stdout)["source"] == "kept"


def test_a_model_that_no_source_has_is_refused_and_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    refused = make_base_model(tmp_path / "out", cache, "tiny/none")
    assert refused.returncode == 2
    assert "tiny/none is neither in the hub's cache" in refused.stderr
    assert not (tmp_path / "out").exists()


def test_chat_answers_with_the_published_adapter(
    taught: Path, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "MAX_NEW_TOKENS", 5)
    assert chat.main(["--model", str(model), "--adapter", str(taught / "model"), "--prompt", "Row 50"]) == 0
    assert capsys.readouterr().out == "yes\n"
    assert chat.main(["--model", str(model), "--prompt", "Row 50"]) == 0
    assert capsys.readouterr().out != "yes\n"


def test_chat_without_its_folder_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert chat.main(["--model", str(tmp_path / "none"), "--prompt", "Hello"]) == 2
    assert "There is no folder" in capsys.readouterr().err


def test_chat_leaves_the_terminal_to_the_conversation(taught: Path, model: Path) -> None:
    command = [sys.executable, "-m", "training_container.chat", "--model", str(model), "--prompt", "Row 50"]
    command += ["--adapter", str(taught / "model")]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    answered = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert answered.stdout.startswith("yes")
    assert answered.stderr == ""
