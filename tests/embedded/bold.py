"""The tiny model with larger weights: its answers change within a few steps, so that models can be told apart."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from spotune.local.models import add_base_model
from spotune.local.state import StackState
from tests import tiny_model
from tests.embedded.conftest import WEIGHTS

NAME = "spotune/tiny-bold"


def add_bold_model(stack: StackState) -> str:
    """Put it into the stack's models bucket; its name. Torch stays in a process of its own."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        config = {**tiny_model.CONFIG, "initializer_range": 0.2}
        for name, body in {**tiny_model.files(NAME), "config.json": json.dumps(config).encode()}.items():
            (folder / name).write_bytes(body)
        subprocess.run([sys.executable, "-c", WEIGHTS, made], check=True, capture_output=True)
        add_base_model(stack, folder, NAME)
    return NAME
