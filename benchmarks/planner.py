"""What the planner says of memory and speed, against published measurements.

    make bench-planner [FILE=runs.csv]

Without FILE: every measured_*.csv of benchmarks/data. Constants are fitted on the half of the published rows that a
hash marks as seen (`python -m benchmarks.fit`); the bars are on the other half. What `make bench-gpu-memory` measured,
or a file of one's own in the schema of benchmarks/data/README.md, counts as unseen altogether.
"""

from __future__ import annotations

import csv
import json
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.measured import DATA, Run, Unmapped, predicted_peak, predicted_speed, read_runs
from benchmarks.report import Figure, finish, percentile
from spotune.planner.calibration import Calibration, our_calibration
from spotune.planner.throughput import HIGH, LOW

BUNDLED = DATA / "measured_runs.csv"
WORST = 6


@dataclass(frozen=True)
class Result:
    """One run's relative error: predicted over measured, less one."""

    run: Run
    error: float
    covered: bool
    """The 95 % value, or the interval, holds the measured one."""


def main() -> None:
    """Read, compare, print, check the bars."""
    paths = [Path(sys.argv[1])] if len(sys.argv) > 1 else sorted(DATA.glob("measured_*.csv"))
    runs = [run for path in paths for run in _read(path)]
    if not runs:
        sys.exit(f"{paths[0]} has no run that can be compared.")
    stacks = _stacks()
    unseen = [run for run in runs if run.file != BUNDLED or not run.seen]
    memory, speed = _memory(unseen, stacks), _speed(unseen, stacks)
    _print_errors("memory", memory)
    _print_errors("speed", speed)
    _print_worst(memory, speed)
    seen = [run for run in runs if run not in unseen]
    finish("planner", [*_figures(memory, speed), *_context(seen, unseen, stacks)])


def _read(path: Path) -> list[Run]:
    runs, unmapped = read_runs(path)
    _print_left_out(path, unmapped)
    return runs


def _stacks() -> dict[str, Calibration]:
    others = json.loads((DATA / "stacks.json").read_bytes())
    return {"transformers": our_calibration()} | {name: Calibration(**one) for name, one in others.items()}


def _memory(runs: Sequence[Run], stacks: dict[str, Calibration]) -> list[Result]:
    found = []
    for run in runs:
        if run.peak is not None:
            mid, high = predicted_peak(run, stacks.get(run.stack, our_calibration()))
            found.append(Result(run, mid / run.peak - 1, run.peak <= high))
    return found


def _speed(runs: Sequence[Run], stacks: dict[str, Calibration]) -> list[Result]:
    found = []
    for run in runs:
        if run.speed is not None:
            mid = predicted_speed(run, stacks.get(run.stack, our_calibration()))
            found.append(Result(run, mid / run.speed - 1, LOW * mid <= run.speed <= HIGH * mid))
    return found


def _figures(memory: Sequence[Result], speed: Sequence[Result]) -> list[Figure]:
    figures = []
    for name, results, bars in (("memory", memory, (8, 20)), ("speed", speed, (15, 35))):
        if results:
            errors = _percents(results)
            figures += [
                Figure(
                    f"{name}, {len(results)} unseen runs: median absolute error",
                    statistics.median(errors),
                    "%",
                    bars[0],
                ),
                Figure(f"{name}: 90th percentile", percentile(errors, 0.9), "%", bars[1]),
            ]
    if memory:
        missed = 100 * sum(not result.covered for result in memory) / len(memory)
        figures.append(Figure("memory: runs above the 95 % value", missed, "%", 3))
    return figures


def _context(seen: Sequence[Run], unseen: Sequence[Run], stacks: dict[str, Calibration]) -> list[Figure]:
    """Figures without a bar: the half that was fitted on, the intervals, and what one stack's constants do to all."""
    ours = defaultdict(our_calibration)
    named: list[tuple[str, list[Result]]] = [
        (f"memory, {sum(run.peak is not None for run in seen)} seen runs", _memory(seen, stacks)),
        (f"speed, {sum(run.speed is not None for run in seen)} seen runs", _speed(seen, stacks)),
        ("memory, unseen, every stack by our constants", _memory(unseen, ours)),
        ("speed, unseen, every stack by our constants", _speed(unseen, ours)),
    ]
    figures = [
        Figure(f"{name}: median absolute error", statistics.median(_percents(results)), "%")
        for name, results in named
        if results
    ]
    speed = _speed(unseen, stacks)
    if speed:
        outside = 100 * sum(not result.covered for result in speed) / len(speed)
        figures.append(Figure("speed: unseen runs outside the interval", outside, "%"))
    return figures


def _percents(results: Sequence[Result]) -> list[float]:
    return [100 * abs(result.error) for result in results]


def _print_errors(what: str, results: Sequence[Result]) -> None:
    title = f"{what}: absolute error on unseen runs"
    table = Table("file", "source", "method", "runs", "median", "worst", "bias", title=title)
    groups: dict[tuple[str, str, str], list[Result]] = defaultdict(list)
    for result in results:
        run = result.run
        groups[run.file.name, run.source.split(" ")[0], run.work.method].append(result)
    for names, group in sorted(groups.items()):
        errors = _percents(group)
        bias = 100 * statistics.mean(result.error for result in group)
        cells = (f"{statistics.median(errors):.1f} %", f"{max(errors):.1f} %", f"{bias:+.1f} %")
        table.add_row(*names, str(len(group)), *cells)
    Console().print(table)


def _print_worst(memory: Sequence[Result], speed: Sequence[Result]) -> None:
    for what, results in (("memory", memory), ("speed", speed)):
        worst = sorted(results, key=lambda result: -abs(result.error))[:WORST]
        names = [f"{one.run.id} {one.run.stack} {one.run.work.method} {100 * one.error:+.0f} %" for one in worst]
        print(f"worst of {what}: {'; '.join(names)}")


def _print_left_out(path: Path, unmapped: Sequence[Unmapped]) -> None:
    for one in unmapped:
        print(f"{path.name}, line {one.line} ({one.id}) cannot be compared: {one.reason}")
    if path != BUNDLED:
        return
    with (DATA / "excluded_runs.csv").open(encoding="utf-8", newline="") as stream:
        reasons = Counter(row["reason"] for row in csv.DictReader(stream))
    table = Table("runs", "why", title="left out of the bundled runs (benchmarks/data/excluded_runs.csv names each)")
    for reason, count in reasons.most_common():
        table.add_row(str(count), reason)
    Console().print(table)


if __name__ == "__main__":
    main()
