"""What never losing work costs: the step that overlaps a checkpoint, the work that a kill costs, and the goodput.

    make bench-resume

Measured: on SmolLM2-135M, LoRA and full fine-tuning, steps with and without a checkpoint being written beside them,
the time a checkpoint takes to be whole, and a resumed process's start to its first step; on a tiny model, what real
SIGKILLs cost. Simulated: hours of training on a virtual clock with the measured times, interrupted by chance.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.report import Figure, finish
from spotune.contracts.checkpoint import WRITES_APART, stretched
from spotune.planner.interruptions import Save, save_interval
from tests.training_container import kills
from tests.training_container.building import make_root, save_model, write_rows
from training_container.base_model import make_base_model
from training_container.folders import Folders
from training_container.inputs import read_inputs
from training_container.job import run
from training_container.saving import WRITING_MARGIN, Saver
from training_container.stop import StopRequest

STEPS = 14
SAVE_EVERY = 6
"""Steps; the first of each six overlaps the checkpoint at least, and some of them none."""
METHODS: dict[str, dict[str, Any]] = {
    "lora": {"adapter": {"rank": 16, "alpha": 32, "dropout": 0.0, "target_modules": "all-linear"}},
    "full": {"adapter": None},
}
WORDS = 90
"""In each row, so that all steps are alike: about 1,000 tokens, few for a real run."""

OVERLAP_BAR = 1.3
KILLS = 20
RATES = (1, 4, 12)
"""Interruptions an hour."""
SIMULATED_HOURS = 500
SEED = 5
OTHER_INTERVALS = (0.25, 0.35, 0.5, 0.7, 1.4, 2.0, 2.8, 4.0)
"""Of the planner's interval: with the best of these it is compared."""
REGRET_BAR = 1.2
"""What interruptions and checkpoints may cost beside starting up, over what they would at the best interval."""
OFTEN = 12
"""Interruptions an hour from which no formula is held to it: Young's takes them to be far apart beside an interval."""


@dataclass(frozen=True)
class Measured:
    """Seconds of one method."""

    step: float
    overlapped: float
    write: float
    """From the copy until the checkpoint is whole."""
    start: float
    """From a process's start to the end of its first step after a resume, less that step."""

    @property
    def save(self) -> Save:
        """One checkpoint, as the planner has it."""
        return Save(self.write, (self.overlapped - self.step) * max(1.0, self.write / self.overlapped))


@dataclass
class Course:
    """A simulated training, in seconds."""

    useful: float = 0.0
    steps: int = 0
    lost_steps: int = 0
    starting: float = 0.0
    total: float = 0.0

    @property
    def step_goodput(self) -> float:
        """Useful steps over all steps."""
        return (self.steps - self.lost_steps) / self.steps

    @property
    def lost(self) -> float:
        """Share of the time beside starting up that was not useful."""
        return 1 - self.useful / (self.total - self.starting)


def main() -> None:
    """Measure, simulate, print, check the bars."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = _base_model()
        for method, change in METHODS.items():
            measured = _measure(_root(folder / method, base, method=method, **change))
            figures += [*_cost_figures(method, measured), *_goodput_figures(method, measured)]
        figures += _kill_figures(folder)
    finish("resume", figures)


def simulate(measured: Measured, per_hour: float, interval: float) -> Course:
    """Hours of steps, interrupted at exponential times; checkpoints begin as `Saver` begins them."""
    course, draw = Course(), random.Random(SEED)
    ahead = 2 * measured.step + WRITING_MARGIN * measured.write
    interval = stretched(interval, measured.write)
    most = max(interval, WRITES_APART * measured.write)
    while course.total < SIMULATED_HOURS * 3600:
        life = draw.expovariate(per_hour / 3600)
        now = min(life, measured.start)
        course.starting += now
        copied = whole = now
        writing: float | None = None
        done = kept = copied_steps = 0
        while now < life:
            if writing is not None and now >= writing:
                whole, kept, writing = copied, copied_steps, None
            if writing is None and done and now - copied + ahead >= interval:
                copied, copied_steps, writing = now, done, now + measured.write
            if writing is not None and now - whole + measured.step >= most:
                now = max(now, writing)
            now += measured.overlapped if writing is not None else measured.step
            done += now <= life
        course.steps += done
        course.lost_steps += done - kept
        course.useful += kept * measured.step
        course.total += life
    return course


def _cost_figures(method: str, measured: Measured) -> list[Figure]:
    return [
        Figure(f"{method}: step", measured.step, "s"),
        Figure(f"{method}: step that overlaps a checkpoint", measured.overlapped / measured.step, "steps", OVERLAP_BAR),
        Figure(f"{method}: checkpoint whole after", measured.write, "s"),
        Figure(f"{method}: start-up until training goes on", measured.start, "s"),
    ]


def _goodput_figures(method: str, measured: Measured) -> list[Figure]:
    figures = []
    for rate in RATES:
        interval = save_interval(measured.save, rate)
        course = simulate(measured, rate, interval)
        least = min(simulate(measured, rate, interval * factor).lost for factor in OTHER_INTERVALS)
        name = f"{method}, {rate} interruptions an hour"
        bar = REGRET_BAR if rate < OFTEN else None
        figures += [
            Figure(f"{name}: goodput, steps", course.step_goodput * 100, "%"),
            Figure(f"{name}: goodput, time", course.useful / course.total * 100, "%"),
            Figure(f"{name}: lost beside start-up", course.lost * 100, "%"),
            Figure(f"{name}: the same, of the best interval's", course.lost / least, "x", bar),
        ]
    return figures


def _kill_figures(folder: Path) -> list[Figure]:
    """Real kills of a tiny run, at any time; an interval of one second of real time."""
    draw = random.Random(SEED)
    model = save_model(folder / "tiny")
    lost: list[float] = []
    turn, killed = 0.0, 0
    for number in count():
        if killed >= KILLS:
            break
        # On a fast machine a run may end before it is killed, and then another one begins.
        root = make_root(folder / f"run-{number}", model, count=400, checkpoint={"interval_seconds": 1})
        code = -signal.SIGKILL
        while code == -signal.SIGKILL:
            code = kills.train(root, looks=False, kill=kills.Kill(seconds=draw.uniform(0.5, 3)))
            killed += code == -signal.SIGKILL
        costs, longest = kills.losses(root)
        lost, turn = lost + costs, max(turn, longest)
    return [
        Figure("tiny run: work lost a kill, mean", statistics.fmean(lost), "s"),
        Figure("tiny run: work lost a kill, most, of an interval and a step", max(lost) / (1 + turn), "x", 1.0),
    ]


def _measure(root: Path) -> Measured:
    """A process of so many steps, then one that goes on from its last checkpoint and is killed after a step."""
    first = _events(root, _train_to_an_end)
    saves = [(one["copied"], one["whole"]) for one in first if "copied" in one]
    turns = _turns(first)
    beside = [end - begin for begin, end in turns if any(a < end and begin < b for a, b in saves)]
    alone = [end - begin for begin, end in turns if not any(a < end and begin < b for a, b in saves)]
    began = time.monotonic()
    second = _events(root, _train_one_step)
    step = statistics.median(alone)
    return Measured(
        step=step,
        overlapped=max(statistics.median(beside), step),
        write=statistics.median(whole - copied for copied, whole in saves),
        start=next(one["turned"] for one in second if "turned" in one) - began,
    )


def _turns(events: Sequence[dict[str, float]]) -> list[tuple[float, float]]:
    """From one look of the loop to the next; the first two warm up."""
    times = [one["turned"] for one in events if "turned" in one]
    return list(itertools.pairwise(times))[2:]


def _events(root: Path, target: Callable[[Path, Path], None]) -> list[dict[str, float]]:
    """What a fresh process noted, as lines of JSON."""
    notes = root / "notes"
    notes.unlink(missing_ok=True)
    process = multiprocessing.get_context("spawn").Process(target=target, args=(root, notes))
    process.start()
    process.join()
    return [json.loads(line) for line in notes.read_text().splitlines()]


def _train_to_an_end(root: Path, notes: Path) -> None:
    _train(root, notes, STEPS)


def _train_one_step(root: Path, notes: Path) -> None:
    _train(root, notes, 1)


def _train(root: Path, notes: Path, steps: int) -> None:
    """The container's own run, which notes when the loop turns and when checkpoints are copied and whole."""
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # as the container's own main does
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    file = notes.open("a", buffering=1)
    turns = 0

    def note(**values: float) -> None:
        print(json.dumps(values), file=file)

    class Turns(StopRequest):
        def check(self) -> None:
            nonlocal turns
            if sys._getframe(1).f_code.co_name == "_train":
                note(turned=time.monotonic())
                turns += 1
                if turns > steps:
                    self.ask()
            super().check()

    write = Saver._write

    def noted(saver: Saver, state: Any, files: Any, copied_at: float) -> None:
        write(saver, state, files, copied_at)
        note(copied=copied_at, whole=time.monotonic())

    Saver._write = noted  # type: ignore[method-assign]
    Saver.due = lambda *_: turns % SAVE_EVERY == 0  # type: ignore[method-assign]
    run(read_inputs(Folders(root)), Turns())


def _root(folder: Path, base: Path, **changes: Any) -> Path:
    """A job whose steps are all alike: packed rows of real text fill every sequence."""
    root = make_root(
        folder,
        base,
        data={"max_sequence_length": 256, "packing": False},
        optimization={"epochs": 1, "global_batch_size": 4, "learning_rate": 1e-4},
        hardware={"precision": "auto", "micro_batch_size": 2},
        evaluation={"generation_examples": 0},
        checkpoint={"interval_seconds": 3600},  # a shorter one than a write makes the step after it wait
        **changes,
    )
    text = " ".join(f"number {number}" for number in range(WORDS))
    rows = [{"messages": [_said("user", f"Count, {n:03}."), _said("assistant", text)]} for n in range(4 * (STEPS + 8))]
    write_rows(root / "input/data/training/train.jsonl", rows)
    write_rows(root / "input/data/validation/held-out.jsonl", rows[:2])
    return root


def _said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _base_model() -> Path:
    kept = Path("build/smollm2").resolve()
    kept.parent.mkdir(exist_ok=True)
    make_base_model(kept)
    return kept


if __name__ == "__main__":
    main()
