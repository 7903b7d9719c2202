"""A finished run's forecast beside its outcome, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from spotune.cli import words
from spotune.contracts.base import Interval, dollars
from spotune.contracts.history import FinishedRun


class Line(NamedTuple):
    """One quantity. `error` is actual over the forecast's mid value, less 1; None where they cannot be compared."""

    name: str
    forecast: str
    actual: str
    error: float | None
    within: bool | None
    """The actual value lies in the forecast's interval, or under its 95 % value."""


def compare(run: FinishedRun) -> Iterator[Line]:
    """Cost, times, speed, memory and interruptions, those of them that were measured.

    Money and time of a run that published nothing are shown without an error: its forecast was of the whole job. So is
    everything of a run on another device than the planned card.
    """
    forecast, actual, whole = run.forecast, run.actual, run.completed and not run.elsewhere
    if run.elsewhere:
        yield Line("device", forecast.gpu, actual.device, None, None)
    yield _line("cost", words.money(forecast.cost), dollars(actual.cost), forecast.cost, actual.cost, whole=whole)
    yield _hours("billed time", forecast.billed_hours, actual.billed_hours, whole=whole)
    if actual.wall_hours is not None:
        yield _hours("wall time", forecast.wall_hours, actual.wall_hours, whole=whole)
    if actual.tokens_per_second is not None:
        speed = forecast.tokens_per_second
        said = f"{speed.mid:,.0f} ({speed.low:,.0f} to {speed.high:,.0f})"
        was = f"{actual.tokens_per_second:,.0f}"
        yield _line("tokens a second", said, was, speed, actual.tokens_per_second, whole=not run.elsewhere)
    if actual.peak_memory_bytes is not None:
        memory = forecast.memory
        said = f"{words.size(memory.mid)} (95 %: {words.size(memory.p95)})"
        interval = Interval(low=0, mid=memory.mid, high=memory.p95)
        was = words.size(actual.peak_memory_bytes)
        yield _line("peak memory", said, was, interval, actual.peak_memory_bytes, whole=not run.elsewhere)
    yield Line("interruptions", f"{forecast.interruptions:.2f}", str(actual.interruptions), None, None)


def _hours(name: str, forecast: Interval, actual: float, *, whole: bool) -> Line:
    return _line(name, words.hours(forecast), words.duration(actual * 3600), forecast, actual, whole=whole)


def _line(name: str, said: str, was: str, forecast: Interval, actual: float, *, whole: bool) -> Line:
    if not whole or not forecast.mid:
        return Line(name, said, was, None, None)
    return Line(name, said, was, actual / forecast.mid - 1, forecast.low <= actual <= forecast.high)
