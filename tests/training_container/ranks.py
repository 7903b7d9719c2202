"""What two ranks do for test_sharding.py: `torchrun ranks.py OUT ROOT...` trains each root's job, one after another.

A root with a file `looks` is stopped by the second rank when it has looked at its request so often, and resumed.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch

from tests.training_container.building import StopAfter
from training_container.champion import check_equal
from training_container.folders import Folders
from training_container.inputs import read_inputs
from training_container.job import run
from training_container.model import trainable
from training_container.sharding import World, fsdp, make_engine, replicated, zero
from training_container.sharding.engine import Setting
from training_container.stop import StopRequest

ATTEMPT = "TORCHELASTIC_RESTART_COUNT"


def main(out: Path, roots: list[Path]) -> None:
    """Train all, then ask for wrappers that fall back in silence; what was raised lies in `out`."""
    torch.set_num_threads(1)
    rank = World.from_environment().rank
    for root in roots:
        with (root / f"stdout-{rank}").open("w") as file, contextlib.redirect_stdout(file):
            try:
                codes = [attempt(root, stop) for stop in stops(root, rank)]
            except Exception:
                (root / f"code-{rank}").write_text(traceback.format_exc())
                raise  # the other rank waits for this one, and torchrun ends it
        (root / f"code-{rank}").write_text(json.dumps(codes))
    if World.from_environment().first:
        out.write_text(json.dumps({}))
    fallen = {name: fallback(roots[0], name, module, change) for name, module, change in FALLBACKS}
    fallen["unequal"] = unequal(rank)
    if World.from_environment().first:
        out.write_text(json.dumps(fallen))


def attempt(root: Path, stop: StopRequest) -> int:
    """A run under one launcher's store, whose keys are the attempt's own, as after a restart."""
    os.environ[ATTEMPT] = str(int(os.environ.get(ATTEMPT, 0)) + 1)
    return int(run(read_inputs(Folders(root)), stop))


def stops(root: Path, rank: int) -> list[StopRequest]:
    """One for each run of the job."""
    looks = root / "looks"
    if not looks.exists():
        return [StopRequest()]
    return [StopAfter(int(looks.read_text())) if rank else StopRequest(), StopRequest()]


class Unwrapped(replicated.Replicated):
    """DDP that was forgotten."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.wrapped = setting.model


def another_stage(setting: Setting, stage: int) -> dict[str, Any]:
    """DeepSpeed told to do less than was asked."""
    return ORIGINAL_CONFIG(setting, stage - 1)


ORIGINAL_CONFIG = zero.zero_config
FALLBACKS: tuple[tuple[str, ModuleType, dict[str, Any]], ...] = (
    ("ddp", sys.modules["training_container.sharding"], {"Replicated": Unwrapped}),
    ("zero2", zero, {"zero_config": another_stage}),
    ("fsdp", fsdp, {"fully_shard": lambda module, **_: module}),
)


def fallback(root: Path, sharding: str, module: ModuleType, change: dict[str, Any]) -> str:
    """What is said where the wrapper of this sharding is another than was asked for."""
    inputs = read_inputs(Folders(root))
    config = inputs.config.with_(hardware=inputs.config.hardware.with_(sharding=sharding))
    from training_container.device import find_machine
    from training_container.loading import load_base
    from training_container.methods import adapt

    machine = find_machine(config.hardware)
    model = adapt(load_base(inputs.model, config, machine), config)
    assert trainable(model)
    with mock.patch.multiple(module, **change):
        try:
            make_engine(Setting(model, config, replace(machine), World.from_environment()))
        except RuntimeError as error:
            return str(error)
    return ""


def unequal(rank: int) -> str:
    """What is said where one rank would begin with other weights than the other."""
    model = torch.nn.Linear(2, 2)
    torch.nn.init.ones_(model.weight)
    torch.nn.init.constant_(model.bias, 0.5)
    check_equal(model, World.from_environment())
    with torch.no_grad():
        model.bias[1] += rank * 1e-6
    try:
        check_equal(model, World.from_environment())
    except RuntimeError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
