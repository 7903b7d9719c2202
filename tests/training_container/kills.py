"""Runs that are killed with SIGKILL at moments drawn by chance, and what each kill cost.

`make kills` takes a hundred of them in real time; SEED=n draws the same moments again.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from training_container.progress import Clock

LOG = "log"
STARTED = '{"started": true}\n'
WRITES = frozenset({"os.rename", "os.mkdir", "os.rmdir", "os.remove"})
TIMEOUT = 60
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["tests.training_container.kills", "training_container.job", "peft", "transformers"])


@dataclass(frozen=True)
class Kill:
    """When a process dies by SIGKILL: before its n-th change in the checkpoint folder, or after so many seconds."""

    change: int | None = None
    seconds: float | None = None


@dataclass
class Looks:
    """A clock that moves by one at each look, so that a run's times do not depend on the machine."""

    now: int = 0

    def __call__(self) -> float:
        self.now += 1
        return float(self.now)


def train(
    root: Path,
    *,
    looks: bool,
    kill: Kill = Kill(),
    stop_at: tuple[int, ...] = (),
    prepare: Callable[[], None] | None = None,
) -> int:
    """Run the container's job in a process of its own, forked from one with torch in it; gives its exit code.

    `stop_at` sends SIGTERM at these changes in the checkpoint folder; `prepare` is called in the process first.
    """
    child: BaseProcess = FORKED.Process(target=_train, args=(root, looks, kill, stop_at, prepare))
    child.start()
    child.join(TIMEOUT)
    if child.is_alive():
        child.kill()
        raise AssertionError("the run hangs")
    assert child.exitcode is not None
    return child.exitcode


def changes(root: Path) -> int:
    """Changes in the checkpoint folder of the last process."""
    return int((root / "changes").read_text())


def losses(root: Path) -> tuple[list[float], float]:
    """What each kill cost, in seconds of the run's clock: from the moment that a later process went on from to the
    last step before the kill. And the longest time between two steps.

    A process that was killed before its first step had nothing to lose.
    """
    lost: list[float] = []
    longest = 0.0
    before: dict[int, float] = {}
    for process in (root / LOG).read_text().split(STARTED)[1:]:
        times = _times(process)
        if len(times) < 2:
            continue
        if before:
            last = max(before)
            resumed = min(times)
            lost.append(before[last] - before.get(resumed, before[min(before)]) if resumed < last else 0.0)
        longest = max([longest, *(times[step + 1] - times[step] for step in times if step + 1 in times)])
        before = times
    return lost, longest


def _times(process: str) -> dict[int, float]:
    """When each step of one process was done; the first is the one that it began from."""
    times: dict[int, float] = {}
    turned = 0.0
    step = None
    for line in process.splitlines():
        if not line.endswith("}"):
            break
        values = json.loads(line)
        if "train_loss" in values:
            step = values["step"]
            times = times or {step - 1: turned}
        if "turned" in values:
            turned = values["turned"]
            if step is not None:
                times.setdefault(step, turned)
    return times


def main() -> None:
    """A hundred kills; ends with 1 where weights differ."""
    import torch
    from safetensors.torch import load_file

    from tests.training_container.building import make_root, save_model

    seed = int(sys.argv[1]) if len(sys.argv) > 1 else int(time.time())
    print(f"seed {seed}")
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = save_model(folder / "base")
        change: dict[str, Any] = {"count": 200, "checkpoint": {"interval_seconds": 1}}
        whole = make_root(folder / "whole", model, **change)
        assert train(whole, looks=False) == 0
        expected = load_file(whole / "model" / "adapter_model.safetensors")
        done = 0
        lost: list[float] = []
        while done < 100:
            root = make_root(folder / f"killed-{done}", model, **change)
            code = -signal.SIGKILL
            while code == -signal.SIGKILL:
                by_time = draw.random() < 0.5
                kill = Kill(seconds=draw.uniform(0, 1)) if by_time else Kill(change=draw.randint(1, 60))
                code = train(root, looks=False, kill=kill)
                done += code == -signal.SIGKILL
            assert code == 0, code
            found = load_file(root / "model" / "adapter_model.safetensors")
            lost += losses(root)[0]
            same = all(torch.equal(found[name], tensor) for name, tensor in expected.items())
            print(f"{done} kills: {'the same weights' if same else 'OTHER WEIGHTS'}", flush=True)
            if not same:
                sys.exit(1)
        print(
            f"lost: {sum(lost) / len(lost):.2f} s a kill on average, {max(lost):.2f} s at most, of an interval of 1 s"
        )


def _train(root: Path, looks: bool, kill: Kill, stop_at: tuple[int, ...], prepare: Callable[[], None] | None) -> None:
    import torch

    from training_container.faults import failure_of
    from training_container.folders import Folders, replace_file
    from training_container.inputs import read_inputs
    from training_container.job import run
    from training_container.stop import StopRequest

    torch.set_num_threads(1)
    gc.freeze()  # of what the libraries hold nothing is ever given back
    if prepare is not None:
        prepare()
    with (root / LOG).open("a") as log:
        os.dup2(log.fileno(), 1)
    print(STARTED, end="", flush=True)
    clock: Clock = Looks() if looks else time.monotonic

    class Turns(StopRequest):
        def check(self) -> None:
            print(json.dumps({"turned": clock()}), flush=True)
            super().check()

    _count_changes(root, kill.change, stop_at)
    if kill.seconds is not None:
        threading.Timer(kill.seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
    stop = Turns()
    stop.listen()
    folders = Folders(root)
    try:
        code = run(read_inputs(folders), stop, clock=clock)
    except Exception as error:
        failure, code = failure_of(error)
        replace_file(folders.failure, failure.model_dump_json().encode())
    os._exit(code)


def _count_changes(root: Path, kill_at: int | None, stop_at: tuple[int, ...]) -> None:
    """Count what is opened for writing, made, renamed and removed below the checkpoint folder, and act at a count."""
    below = str(root / "checkpoints")
    seen = 0
    total = os.open(root / "changes", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        writes = event in WRITES or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR))
        if not writes or not str(arguments[0]).startswith(below):
            return
        seen += 1
        os.pwrite(total, b"%9d" % seen, 0)
        if seen == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if seen in stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    sys.addaudithook(hook)


if __name__ == "__main__":
    main()
