"""Jobs whose group has a champion: what test_champion.py and test_warm_start.py make of a finished job."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from spotune.contracts.request import Method
from tests.training_container.building import chat, make_root, write_rows
from training_container.evaluation.evaluator import Evaluator
from training_container.folders import Folders
from training_container.stop import StopRequest

NAME = "ft:tiny:team::champion"
HELD_OUT = [{**chat(f"Row {number}", "yes"), "slice": ("new", "old")[number % 2]} for number in range(40, 52)]
GOLDEN = [
    {"messages": [{"role": "user", "content": "Row 60"}], "expected": "yes"},
    {"messages": [{"role": "user", "content": "Row 61"}], "expected": ["<string>", "..."]},
]


def changes(method: Method, **more: Any) -> dict[str, Any]:
    """The groups of a short job by this method, without dropout or packing: the same rows meet the same arithmetic."""
    groups: dict[str, Any] = {
        "method": method,
        "quantization": "nf4" if method == "qlora" else "none",
        "adapter": {"rank": 4, "dropout": 0.0, "virtual_tokens": 5, "trained_layers": 1},
        "optimization": {"epochs": 1, "learning_rate": 0.02, "global_batch_size": 4},
        "data": {"packing": False},
        "evaluation": {"generation_examples": 2, "golden": True, "golden_new_tokens": 6},
    }
    for name, change in more.items():
        groups[name] = {**groups.get(name, {}), **change} if isinstance(change, dict) else change
    return {**groups, "adapter": None} if method == "full" else groups


def make_job(
    folder: Path, model: Path, method: Method, champion: Path | None = None, *, start: bool = False, **more: Any
) -> Path:
    """A /opt/ml of twelve rows, its held-out rows and golden prompts, and a finished job's model for its champion."""
    groups = changes(method, **more)
    if champion is not None:
        groups["champion"] = {"name": NAME, "start": start}
    root = make_root(folder, model, **groups)
    data = root / "input" / "data"
    write_rows(data / "training" / "train.jsonl", [chat(f"Row {number}", "yes") for number in range(12)])
    write_rows(data / "validation" / "heldout.jsonl", HELD_OUT)
    write_rows(data / "golden" / "golden.jsonl", GOLDEN)
    if champion is not None:
        (data / "champion").symlink_to(champion / "model")
    return root


def kept(root: Path, name: str) -> dict[str, Any]:
    """What is known of a model, as it lies beside the checkpoints."""
    found: dict[str, Any] = json.loads((Folders(root).checkpoints / name).read_bytes())
    return found


class StopOnceSaved(StopRequest):
    """Asks to stop when there is a checkpoint."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._folder = Folders(root).checkpoints

    def check(self) -> None:
        if any(self._folder.glob("checkpoint-*")):
            self.ask()
        super().check()


def die_while_answering() -> None:
    """For a process of a test: end by SIGKILL at the first answer that any model gives, its losses known."""
    Evaluator.answers = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign,assignment,return-value]


def die_while_scoring_the_base() -> None:
    """The same at the second model's loss: the base's, where the champion is a guest."""
    scored, measure = [], Evaluator.measure_loss

    def dying(evaluator: Evaluator, model: Any) -> Any:
        scored.append(model)
        if len(scored) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return measure(evaluator, model)

    Evaluator.measure_loss = dying  # type: ignore[method-assign]
