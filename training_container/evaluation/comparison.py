"""From what was measured on each held-out row to scores, differences with intervals, and slices."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from spotune.contracts.base import Contract
from spotune.contracts.scores import Comparison, Metric, Scores, SliceScores
from training_container.evaluation.bootstrap import interval_of_difference
from training_container.evaluation.matching import exact_match, json_keys, json_valid
from training_container.evaluation.rouge import rouge_l

MAX_SLICES = 20
"""The largest that are reported; a report with one for each row tells nothing."""
LARGEST_EXPONENT = 700.0
"""`exp` of more is no float."""

ANSWER_METRICS: dict[Metric, Callable[[str, str], float | None]] = {
    "exact_match": exact_match,
    "rouge_l": rouge_l,
    "json_valid": json_valid,
    "json_keys": json_keys,
}


class Measurement(Contract):
    """What one model did on the held-out rows. None where there was no time for it."""

    loss: float
    """The objective's mean over all rows."""
    losses: tuple[float, ...] | None = None
    """A row's summed loss, for each row, where the objective tells them apart."""
    margins: tuple[float, ...] | None = None
    """By how much a model prefers rightly, for each sequence of an objective that compares answers."""
    answers: tuple[str, ...] | None = ()
    """A greedy answer for each question."""
    choices: tuple[int, ...] | None = ()
    """The likeliest answer's index for each row with choices."""
    golden: tuple[str, ...] | None = ()
    """A greedy answer to each golden prompt."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What the rows themselves say, in the order of a measurement's."""

    weights: tuple[int, ...]
    """How much each row counts in the mean loss: its trained tokens."""
    slices: tuple[str, ...]
    """The name that each row carries; empty for none."""
    references: tuple[str, ...]
    reference_slices: tuple[str, ...]
    right: tuple[int, ...]
    """The index of a row's own answer, for each row with choices."""
    right_slices: tuple[str, ...]
    compared_slices: tuple[str, ...] = ()
    """The name of each sequence whose answers are compared."""


class Value(NamedTuple):
    """One metric on one row."""

    value: float
    weight: int
    slice: str


Values = dict[Metric, list[Value]]


def scores(held: HeldOut, measured: Measurement) -> Scores:
    """One model's scores over all rows."""
    found = values_of(held, measured)
    shares = {metric: _mean(values) for metric, values in found.items() if metric != "eval_loss" and values}
    perplexity = None if measured.margins else math.exp(min(measured.loss, LARGEST_EXPONENT))
    return Scores(eval_loss=measured.loss, perplexity=perplexity, **shares)


def compare(held: HeldOut, base: Measurement, tuned: Measurement) -> tuple[Comparison, ...]:
    """Each metric that both models have, with its interval."""
    return _compared(values_of(held, base), values_of(held, tuned))


def by_slice(
    held: HeldOut, base: Measurement, tuned: Measurement, champion: Measurement | None = None
) -> tuple[tuple[SliceScores, ...], int]:
    """The same for each slice, the largest first, and how many smaller ones are left out."""
    counted = Counter(name for name in held.slices if name)
    before, after = values_of(held, base), values_of(held, tuned)
    best = {} if champion is None else values_of(held, champion)
    found = []
    for name, rows in sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:MAX_SLICES]:
        ours = _only(after, name)
        compared, against = (_compared(_only(values, name), ours) for values in (before, best))
        found.append(SliceScores(name=name, rows=rows, comparisons=compared, against_champion=against))
    return tuple(found), len(counted) - len(found)


def values_of(held: HeldOut, measured: Measurement) -> Values:
    """Every metric on every row that it says something about."""
    found: Values = {}
    if measured.losses is not None:
        rows = zip(measured.losses, held.weights, held.slices, strict=True)
        found["eval_loss"] = [Value(loss / weight, weight, name) for loss, weight, name in rows]
    if measured.margins is not None:
        compared = list(zip(measured.margins, held.compared_slices, strict=True))
        found["preference_margin"] = [Value(margin, 1, name) for margin, name in compared]
        found["preference_accuracy"] = [Value(float(margin > 0), 1, name) for margin, name in compared]
    if measured.answers is not None:
        pairs = list(zip(measured.answers, held.references, held.reference_slices, strict=True))
        for metric, score in ANSWER_METRICS.items():
            scored = ((score(answer, reference), name) for answer, reference, name in pairs)
            found[metric] = [Value(value, 1, name) for value, name in scored if value is not None]
    if measured.choices is not None:
        chosen = zip(measured.choices, held.right, held.right_slices, strict=True)
        found["multiple_choice"] = [Value(float(ours == right), 1, name) for ours, right, name in chosen]
    return found


def _compared(before: Values, after: Values) -> tuple[Comparison, ...]:
    return tuple(
        _comparison(metric, before[metric], after[metric])
        for metric in before
        if metric in after and before[metric]  # which rows a metric speaks about follows from their references
    )


def _comparison(metric: Metric, before: list[Value], after: list[Value]) -> Comparison:
    low, high = interval_of_difference(
        [each.value for each in before], [each.value for each in after], [each.weight for each in before]
    )
    base, tuned = _mean(before), _mean(after)
    difference = tuned - base
    return Comparison(
        metric=metric,
        rows=len(before),
        base=base,
        tuned=tuned,
        difference=difference,
        low=min(low, difference),
        high=max(high, difference),
    )


def _only(values: Values, name: str) -> Values:
    return {metric: [each for each in found if each.slice == name] for metric, found in values.items()}


def _mean(values: list[Value]) -> float:
    return math.fsum(each.value * each.weight for each in values) / sum(each.weight for each in values)
