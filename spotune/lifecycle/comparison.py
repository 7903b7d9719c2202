"""Two versions of a model, metric by metric."""

from __future__ import annotations

import math
from typing import Literal, get_args

from spotune.contracts.models import ModelVersion
from spotune.contracts.registry import MetricDifference, VersionComparison
from spotune.contracts.scores import LOWER_IS_BETTER, Comparison, Metric


def compare(a: ModelVersion, b: ModelVersion) -> VersionComparison:
    """The metrics that both have, where they are finite. Intervals are those of the gate, where it compared one of the
    two with the other."""
    paired = _paired(a, b)
    differences = (_difference(metric, a, b, paired.get(metric)) for metric in get_args(Metric))
    return VersionComparison(
        group=a.group,
        a=a.name,
        b=b.name,
        same_rows=bool(paired) or a.lineage.evaluation_sha256 == b.lineage.evaluation_sha256,
        metrics=tuple(one for one in differences if one is not None),
    )


def _paired(a: ModelVersion, b: ModelVersion) -> dict[Metric, Comparison]:
    """The gate's own comparisons, turned so that `base` is a's and `tuned` is b's."""
    if b.verdict.champion == a.name:
        return {one.metric: one for one in b.against_champion}
    if a.verdict.champion == b.name:
        return {one.metric: _turned(one) for one in a.against_champion}
    return {}


def _turned(one: Comparison) -> Comparison:
    return one.with_(base=one.tuned, tuned=one.base, difference=-one.difference, low=-one.high, high=-one.low)


def _difference(metric: Metric, a: ModelVersion, b: ModelVersion, paired: Comparison | None) -> MetricDifference | None:
    if paired is not None:
        better = _better(metric, paired.difference) if paired.sure else None
        return MetricDifference(
            metric=metric,
            a=paired.base,
            b=paired.tuned,
            difference=paired.difference,
            low=paired.low,
            high=paired.high,
            better=better,
        )
    first, second = getattr(a.scores, metric), getattr(b.scores, metric)
    if first is None or second is None or not math.isfinite(first - second):
        return None
    return MetricDifference(
        metric=metric, a=first, b=second, difference=second - first, better=_better(metric, second - first)
    )


def _better(metric: Metric, difference: float) -> Literal["a", "b"] | None:
    if difference == 0:
        return None
    return "b" if (difference < 0) == (metric in LOWER_IS_BETTER) else "a"
