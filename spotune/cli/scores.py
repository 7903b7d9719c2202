"""Tuned against base and champion in words: a line for each metric, then for each slice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from spotune.contracts.scores import IN_NATS, METRIC_NAMES, Comparison, Metric, Scores
from spotune.contracts.training import TrainingReport


class ScoreLine(NamedTuple):
    """One metric. `difference` is tuned - base with its 95 % interval; empty where rows were not told apart. `base` is
    of the model that it is compared with."""

    name: str
    base: str
    tuned: str
    difference: str


def score_lines(report: TrainingReport) -> Iterator[ScoreLine]:
    """All rows, then each slice."""
    compared = {each.metric for each in report.comparisons}
    yield from _compared(report.comparisons, "")
    for metric, name in METRIC_NAMES.items():
        base, tuned = getattr(report.base, metric), getattr(report.tuned, metric)
        if metric not in compared and not base is tuned is None:
            yield ScoreLine(name, _show(metric, base), _show(metric, tuned), "")
    if report.tuned.perplexity is not None:
        yield ScoreLine("perplexity", _perplexity(report.base), _perplexity(report.tuned), "")
    for part in report.slices:
        yield from _compared(part.comparisons, f"{part.name}: ")
    if report.slices_left_out:
        yield ScoreLine(f"{report.slices_left_out} smaller slices are not shown", "", "", "")


def champion_lines(report: TrainingReport) -> Iterator[ScoreLine]:
    """The same against the champion, whose scores stand in the base's place; none where there was none to compare."""
    yield from _compared(report.against_champion, "")
    for part in report.slices:
        yield from _compared(part.against_champion, f"{part.name}: ")


def golden_line(report: TrainingReport) -> str:
    """How many golden prompts each model answered as expected; empty where there were none."""
    answers = report.golden
    if not answers:
        return ""
    met = {
        "base": sum(one.base_met for one in answers),
        "champion": sum(bool(one.champion_met) for one in answers) if report.champion is not None else None,
        "tuned": sum(one.tuned_met for one in answers),
    }
    counts = ", ".join(f"{name} {count}" for name, count in met.items() if count is not None)
    return f"Of {len(answers)} golden prompts answered as expected: {counts}."


def _compared(comparisons: Sequence[Comparison], before: str) -> Iterator[ScoreLine]:
    for each in comparisons:
        signed = "{:+.4f}".format if each.metric in IN_NATS else "{:+.1%}".format
        interval = f"{signed(each.difference)} ({signed(each.low)} to {signed(each.high)})"
        name = f"{before}{METRIC_NAMES[each.metric]} ({each.rows} rows)"
        yield ScoreLine(name, _show(each.metric, each.base), _show(each.metric, each.tuned), interval)


def _show(metric: Metric, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if metric in IN_NATS else f"{value:.1%}"


def _perplexity(of: Scores) -> str:
    return "-" if of.perplexity is None else f"{of.perplexity:.2f}"
