"""One running stack for the end-to-end tests, with a tiny trainable model in it and a client of the public SDK."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from spotune.local.models import add_base_model
from spotune.local.state import StackState
from tests import tiny_model
from tests.embedded import idle

WEIGHTS = """
import sys, torch
from transformers import AutoConfig, AutoModelForCausalLM
torch.manual_seed(0)
model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(sys.argv[1]))
model.save_pretrained(sys.argv[1], safe_serialization=True)
"""


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with random weights. Torch stays in a process of its own."""
    folder = tmp_path_factory.mktemp("tiny-model")
    for name, body in tiny_model.files().items():
        (folder / name).write_bytes(body)
    subprocess.run([sys.executable, "-c", WEIGHTS, str(folder)], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def trainable(stack: StackState, tiny_folder: Path) -> StackState:
    """The stack with the tiny model in its models bucket."""
    add_base_model(stack, tiny_folder, tiny_model.NAME)
    return stack


@pytest.fixture
def sdk(trainable: StackState) -> openai.OpenAI:
    """OpenAI's own client, pointed at the stack."""
    return openai.OpenAI(base_url=f"{trainable.api_url}/v1", api_key=trainable.api_key, max_retries=0)


@pytest.fixture(scope="session")
def idle_stack(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackState]:
    """A stack apart from the other, in which training jobs are created and none gets an instance."""
    home = tmp_path_factory.mktemp("idle-stack")
    (home / "cache").mkdir()
    (home / "cache" / "bundles").symlink_to(pytestconfig.cache.mkdir("bundles"), target_is_directory=True)
    with idle.idle_stack(home) as state:
        yield state
