"""Fit each stack's constants on the seen half of the measured runs, by coordinate search; prints and writes them.

python -m benchmarks.fit
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

from benchmarks.measured import DATA, Run, predicted_peak, predicted_speed, read_runs
from spotune.planner import calibration as home
from spotune.planner.calibration import Calibration

PRIOR = Calibration(
    activations=1.1,
    quantized_activations=1.1,
    logits=14.0,
    overhead=7e8,
    kernels=1.0,
    launch=0.0015,
    adapter_launch=0.0015,
    communication=0.5,
)
"""What physics and the machine suggest; a stack with few runs stays near it."""

MEMORY, SPEED = (
    ("activations", "quantized_activations", "logits", "overhead"),
    (
        "kernels",
        "launch",
        "adapter_launch",
        "communication",
    ),
)
STEPS = (1.3, 1.1, 1.03, 1.01)
PULL = 0.02
"""Weight of a constant's squared distance from its prior, in log: a row weighs 1."""
CEILING = 3.0
"""A constant may leave its prior by this factor."""
OURS = "transformers"


def main() -> None:
    """Fit, print, write the product's own constants and the other stacks' beside the measurements."""
    runs = half_of(read_runs(DATA / "measured_runs.csv")[0])
    fitted = {stack: fit([run for run in runs if run.stack == stack]) for stack in sorted({run.stack for run in runs})}
    for stack, calibration in fitted.items():
        print(stack, {name: float(f"{value:.4g}") for name, value in asdict(calibration).items()})
    ours = home.__file__.replace("calibration.py", "data/calibration.json")
    with open(ours, "w", encoding="utf-8") as stream:
        json.dump(_rounded(fitted.pop(OURS)), stream)
        stream.write("\n")
    others = {stack: _rounded(calibration) for stack, calibration in fitted.items()}
    (DATA / "stacks.json").write_text(json.dumps(others, indent=1) + "\n", encoding="utf-8")


def half_of(runs: Sequence[Run]) -> list[Run]:
    """The seen runs, less those with the largest hashes where they would be more than half of the peaks or speeds."""
    kept: list[Run] = []
    room = {kind: sum(getattr(run, kind) is not None for run in runs) // 2 for kind in ("peak", "speed")}
    for run in sorted((run for run in runs if run.seen), key=lambda run: run.hash):
        measured = [kind for kind in room if getattr(run, kind) is not None]
        if all(room[kind] > 0 for kind in measured):
            kept.append(run)
            for kind in measured:
                room[kind] -= 1
    return kept


def fit(runs: Sequence[Run]) -> Calibration:
    """The constants that bring these runs' mean absolute log error down, without leaving the prior for nothing."""
    found = _search(PRIOR, MEMORY, lambda one: _error(runs, one, _memory_error))
    return _search(found, SPEED, lambda one: _error(runs, one, _speed_error))


def _search(start: Calibration, names: Sequence[str], error: Callable[[Calibration], float]) -> Calibration:
    best, least = start, error(start)
    for step in STEPS:
        moved = True
        while moved:
            moved = False
            for name in names:
                for factor in (step, 1 / step):
                    candidate = replace(best, **{name: getattr(best, name) * factor})
                    if abs(math.log(getattr(candidate, name) / getattr(PRIOR, name))) > math.log(CEILING):
                        continue
                    if (error_there := error(candidate)) < least - 1e-9:
                        best, least, moved = candidate, error_there, True
    return best


def _error(runs: Sequence[Run], calibration: Calibration, of: Callable[[Run, Calibration], float | None]) -> float:
    errors = [one for run in runs if (one := of(run, calibration)) is not None]
    pull = sum(math.log(getattr(calibration, name) / getattr(PRIOR, name)) ** 2 for name in (*MEMORY, *SPEED))
    return sum(errors) + PULL * pull


def _memory_error(run: Run, calibration: Calibration) -> float | None:
    return None if run.peak is None else abs(math.log(predicted_peak(run, calibration)[0] / run.peak))


def _speed_error(run: Run, calibration: Calibration) -> float | None:
    return None if run.speed is None else abs(math.log(predicted_speed(run, calibration) / run.speed))


def _rounded(calibration: Calibration) -> dict[str, float]:
    return {name: float(f"{value:.4g}") for name, value in asdict(calibration).items()}


if __name__ == "__main__":
    main()
