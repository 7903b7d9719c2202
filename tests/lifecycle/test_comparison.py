"""Two versions, metric by metric: the gate's own intervals where there are any, turned the right way round."""

from __future__ import annotations

import pytest

from spotune.contracts.models import ModelVersion
from spotune.contracts.registry import MetricDifference
from spotune.contracts.scores import Comparison, Scores
from spotune.contracts.verdict import Verdict
from spotune.lifecycle.comparison import compare
from tests.factories import lineage, model_version

BETTER = Comparison(metric="eval_loss", rows=9, base=0.9, tuned=0.6, difference=-0.3, low=-0.4, high=-0.1)
UNSURE = Comparison(metric="exact_match", rows=9, base=0.5, tuned=0.6, difference=0.1, low=-0.2, high=0.3)


def judged(number: int, against: str | None, *compared: Comparison, **scores: float) -> ModelVersion:
    return model_version(
        number,
        scores=Scores.model_validate({"eval_loss": 0.5, "perplexity": None, **scores}),
        verdict=Verdict(decision="promote", conditions=(), champion=against, reason="so."),
        against_champion=compared,
    )


def by_metric(a: ModelVersion, b: ModelVersion) -> dict[str, MetricDifference]:
    return {one.metric: one for one in compare(a, b).metrics}


def test_a_version_that_was_judged_against_the_other_brings_its_intervals() -> None:
    first, second = judged(1, None), judged(2, "ft:tiny::1", BETTER, UNSURE)
    loss, match = by_metric(first, second)["eval_loss"], by_metric(first, second)["exact_match"]
    assert (loss.a, loss.b, loss.difference, loss.low, loss.high, loss.better) == (0.9, 0.6, -0.3, -0.4, -0.1, "b")
    assert (match.better, match.low, match.high) == (None, -0.2, 0.3), "the interval holds 0"


def test_the_other_way_round_every_sign_is_turned() -> None:
    first, second = judged(1, None), judged(2, "ft:tiny::1", BETTER)
    loss = by_metric(second, first)["eval_loss"]
    assert (loss.a, loss.b, loss.difference, loss.low, loss.high, loss.better) == (0.6, 0.9, 0.3, 0.1, 0.4, "a")


@pytest.mark.parametrize(
    ("a", "b", "better"),
    [
        ({"eval_loss": 0.9}, {"eval_loss": 0.6}, "b"),
        ({"eval_loss": 0.6}, {"eval_loss": 0.9}, "a"),
        ({"eval_loss": 0.6}, {"eval_loss": 0.6}, None),
    ],
)
def test_less_loss_is_better(a: dict[str, float], b: dict[str, float], better: str | None) -> None:
    found = by_metric(judged(1, None, **a), judged(2, None, **b))["eval_loss"]
    assert (found.better, found.low, found.high) == (better, None, None)


def test_more_of_any_other_metric_is_better_and_one_that_only_one_has_is_left_out() -> None:
    found = by_metric(judged(1, None, exact_match=0.5, rouge_l=0.1), judged(2, None, exact_match=0.7))
    assert found["exact_match"].better == "b"
    assert set(found) == {"eval_loss", "exact_match"}


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_what_is_not_finite_is_left_out(loss: float) -> None:
    assert by_metric(judged(1, None, eval_loss=loss), judged(2, None)) == {}
    assert by_metric(judged(1, None, eval_loss=loss), judged(2, None, eval_loss=loss)) == {}


def test_versions_were_scored_on_the_same_rows_where_these_are_the_same_or_the_gate_paired_them() -> None:
    other_rows = lineage("ftjob-2", evaluation_sha256="f" * 64)
    assert compare(judged(1, None), judged(2, None)).same_rows
    assert not compare(judged(1, None), judged(2, None).with_(lineage=other_rows)).same_rows
    assert compare(judged(1, None), judged(2, "ft:tiny::1", BETTER).with_(lineage=other_rows)).same_rows
