"""The table that every benchmark prints: figure, unit, bar, and whether it is met, on which machine."""

from __future__ import annotations

import io
import json
import logging
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Figure:
    """One measured value. `bar` is its upper limit, or its lower one where it has to be `at_least` that; None where it
    has none."""

    name: str
    value: float
    unit: str
    bar: float | None = None
    at_least: bool = False

    @property
    def met(self) -> bool:
        """True where there is no bar, or the value is within it."""
        if self.bar is None:
            return True
        return self.value >= self.bar if self.at_least else self.value <= self.bar


def log_elsewhere() -> None:
    """The handlers' log lines are written as ever, and not into the table."""
    from handlers.logs import logger

    handler = logger.registered_handler
    if isinstance(handler, logging.StreamHandler):
        handler.setStream(io.StringIO())


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def milliseconds(call: Callable[[], object], times: int, warm_up: int = 5) -> list[float]:
    """How long each call takes, after some that do not count."""
    for _ in range(warm_up):
        call()
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        taken.append((time.perf_counter() - start) * 1000)
    return taken


def p50_p95(name: str, taken: Sequence[float], bar: float | None = None) -> list[Figure]:
    """Two rows of one measurement; the bar is the median's."""
    return [
        Figure(f"{name}, p50", statistics.median(taken), "ms", bar),
        Figure(f"{name}, p95", percentile(taken, 0.95), "ms"),
    ]


def machine() -> str:
    """The machine in one line."""
    return f"{os.cpu_count()} cores, {_processor()}, {platform.system()}, Python {platform.python_version()}"


def finish(name: str, figures: Sequence[Figure]) -> None:
    """Print the table, write the results, and leave with 1 where a bar is missed."""
    table = Table("figure", "value", "bar", "", title=f"bench-{name}: {machine()}")
    for figure in figures:
        bar = "" if figure.bar is None else f"{'>=' if figure.at_least else '<='} {figure.bar:g} {figure.unit}"
        verdict = "" if figure.bar is None else ("met" if figure.met else "MISSED")
        table.add_row(figure.name, f"{figure.value:,.4g} {figure.unit}", bar, verdict)
    Console().print(table)
    RESULTS.mkdir(exist_ok=True)
    rows = [{**asdict(figure), "met": figure.met} for figure in figures]
    result = {"benchmark": name, "machine": machine(), "measured_at": time.strftime("%F"), "figures": rows}
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(0 if all(figure.met for figure in figures) else 1)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
