"""`accuracy`: how good forecasts were, job by job, and what plans have learnt from it."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from spotune.cli.blocks import add_row, paragraphs, table, titled
from spotune.cli.client import Api
from spotune.cli.connection import find_connection
from spotune.cli.outcome import compare
from spotune.cli.screen import JsonOption, Screen
from spotune.contracts.history import Corrections, FinishedRun

QUANTITIES = ("cost", "billed time", "wall time", "tokens a second", "peak memory")


def accuracy(
    limit: Annotated[int, typer.Option(min=1, max=100, help="Jobs on a page.")] = 20,
    after: Annotated[str | None, typer.Option(metavar="JOB", help="Go on after this job.")] = None,
    json: JsonOption = False,
) -> None:
    """Show forecasts against outcomes of finished jobs, and the corrections that plans take from them."""
    screen = Screen(machine=json)
    with Api(find_connection()) as api:
        page = api.accuracy(after=after, limit=limit)
    screen.emit(page.model_dump(mode="json"))
    if not page.data:
        screen.say("No job has ended yet." if after is None else f"No ended jobs after {after}.")
        return
    screen.show(paragraphs([_history(page.data), *_errors(page.data), _learnt(page.corrections)]))
    if page.has_more:
        screen.say(f"\nMore: spotune accuracy --after {page.data[-1].id}")


def _history(runs: Sequence[FinishedRun]) -> RenderableType:
    """One line a job: how far each outcome was from its forecast."""
    listed = table("job", "model", "machines", *QUANTITIES, "interruptions")
    for run in runs:
        lines = {line.name: line for line in compare(run)}
        errors = [_error_words(lines[name].error) if name in lines else "" for name in QUANTITIES]
        forecast = run.forecast
        machines = f"{forecast.instance_count} x {forecast.instance_type}"
        machines += f" (ran on {run.actual.device})" if run.elsewhere else ""
        spot = lines["interruptions"]
        add_row(listed, run.id, run.model, machines, *errors, f"{spot.actual} ({spot.forecast} expected)")
    return titled("Outcome over forecast", listed)


def _errors(runs: Iterable[FinishedRun]) -> Iterator[RenderableType]:
    found: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for run in runs:
        for line in compare(run):
            if line.error is not None:
                found[line.name].append((line.error, bool(line.within)))
    listed = table("quantity", "jobs", "median error", "worst", "within the interval")
    for name in QUANTITIES:
        if name in found:
            errors = [abs(error) for error, _ in found[name]]
            within = sum(inside for _, inside in found[name])
            add_row(
                listed,
                name,
                str(len(errors)),
                f"{statistics.median(errors):.0%}",
                f"{max(errors):.0%}",
                f"{within} of {len(errors)}",
            )
    if found:
        yield titled("Errors on this page, of runs on the planned card", listed)


def _learnt(corrections: Corrections) -> RenderableType:
    if not corrections.runs:
        return Text("Plans are not corrected yet: no run on a planned GPU has ended.")
    listed = table("corrected", "of", "factor", "runs")
    for factor in corrections.factors:
        quantity = factor.quantity.replace("_", " ")
        add_row(listed, quantity, factor.subject or "all", f"{factor.factor:.3f}", str(factor.runs))
    for seen in corrections.spot:
        what = f"{seen.interruptions} in {seen.hours:,.1f} instance-hours"
        add_row(listed, "interruptions", f"{seen.instance_type} {seen.region}", what, "")
    return titled(f"What plans have learnt from {corrections.runs} runs", listed)


def _error_words(error: float | None) -> str:
    return "" if error is None else f"{error:+.0%}"
