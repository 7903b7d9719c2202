"""SIGKILL and SIGTERM at any moment, checkpoint writes included: the same weights, and little work lost."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from spotune.contracts.training import ExitCode, Progress
from tests.training_container.building import make_root, report_of
from tests.training_container.kills import Kill, changes, losses, train

pytestmark = pytest.mark.torch

Root = Callable[..., Path]
KILLS = 20
INTERVAL = 60
"""Looks at the clock, of which a step takes about eight."""
CHANGE = {"count": 60, "checkpoint": {"interval_seconds": INTERVAL}, "evaluation": {"evaluations_per_epoch": 3}}


def assert_same(one: Path, other: Path) -> None:
    """Published weights, bit for bit."""
    weights = [load_file(root / "model" / "adapter_model.safetensors") for root in (one, other)]
    assert all(torch.equal(weights[0][name], tensor) for name, tensor in weights[1].items())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """A run that nothing interrupts."""
    folder = make_root(tmp_path_factory.mktemp("whole") / "ml", model, **CHANGE)
    assert train(folder, looks=True) == ExitCode.PUBLISHED
    return folder


@pytest.mark.proves(method="lora")
def test_twenty_kills_at_random_moments_change_no_weight_and_cost_at_most_an_interval_each(
    root: Root, whole: Path
) -> None:
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    print(f"SEED={seed}")
    draw = random.Random(seed)
    total, killed, lost, longest = changes(whole), 0, list[float](), 0.0
    while killed < KILLS:
        folder = root(f"killed-{killed}", **CHANGE)
        code = -signal.SIGKILL
        while code == -signal.SIGKILL:
            moments = (Kill(change=draw.randint(1, total // 3)), Kill(seconds=draw.uniform(0, 0.5)))
            code = train(folder, looks=True, kill=draw.choice(moments))
            killed += code == -signal.SIGKILL
        assert code == ExitCode.PUBLISHED
        assert_same(folder, whole)
        costs, turn = losses(folder)
        lost += costs
        longest = max(longest, turn)
    assert max(lost) <= INTERVAL + longest


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.4, 0.6, 0.8, 0.95])
def test_sigterm_at_any_change_on_disk_and_again_while_it_is_obeyed_loses_nothing(
    root: Root, whole: Path, share: float
) -> None:
    folder = root("stopped", **CHANGE)
    first = 1 + int(share * changes(whole))
    assert train(folder, looks=True, stop_at=(first, first + 1, first + 3)) == ExitCode.STOPPED
    progress = Progress.model_validate_json((folder / "checkpoints" / "progress.json").read_bytes())
    assert progress.phase == "stopped"
    assert not (folder / "model" / "report.json").exists()
    assert train(folder, looks=True) == ExitCode.PUBLISHED
    assert_same(folder, whole)
    assert report_of(folder).lost_steps == 0
