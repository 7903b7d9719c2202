"""The tutorial, from its first command to its last, against the whole stack; the model alone is a tiny one."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spotune.cli import main
from spotune.contracts.layout import MODEL_MARKER
from spotune.local.models import add_base_model
from spotune.local.state import StackState
from tests.docs.blocks import ROOT, Block, blocks, reason_not_to_run

pytestmark = [pytest.mark.embedded, pytest.mark.torch]

PAGE = ROOT / "docs" / "tutorial.md"
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
NEWEST = "ftjob-..."
"""How the page writes the id of the job that it has just submitted."""


def test_what_the_tutorial_says_can_be_done(
    stack: StackState,
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # What the hub would be asked for.
    base = shutil.copytree(tiny_folder, tmp_path / "build" / "smollm2")
    marker = json.loads((base / MODEL_MARKER).read_bytes())
    (base / MODEL_MARKER).write_text(json.dumps(marker | {"name": MODEL}))
    add_base_model(stack, base, MODEL)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    for name in ("SPOTUNE_API_URL", "SPOTUNE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SPOTUNE_HOME", str(stack.home))
    monkeypatch.setenv("OPENAI_BASE_URL", f"{stack.api_url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", stack.api_key)
    for block in blocks(PAGE):
        follow(block, capsys)


def follow(block: Block, capsys: pytest.CaptureFixture[str]) -> None:
    """Do what one block of the page says."""
    if block.mark.startswith("file "):
        Path(block.mark.removeprefix("file ")).write_text(block.text)
    elif block.language == "python":
        subprocess.run([sys.executable, "-c", block.text], check=True, env=dict(os.environ))
    for words in block.commands:
        chats = words[:2] == ["spotune", "chat"]  # elsewhere it would have nothing to chat with
        if words[0] == "hf" or (reason_not_to_run(words) and not chats):
            continue
        if words[0] == "spotune":
            line = [newest(capsys) if word == NEWEST else word for word in words[1:]]
            assert main.run(line) == 0, f"{block}: {capsys.readouterr()}"
        else:
            subprocess.run(shlex.join(words), shell=True, check=True)


def newest(capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main.run(["list", "--limit", "1", "--json"]) == 0
    return str(json.loads(capsys.readouterr().out)["data"][0]["id"])
