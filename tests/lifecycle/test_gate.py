"""The gate's verdicts: a table of cases, and what holds of every gate and every report."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotune.contracts.base import MICRO
from spotune.contracts.job import ChampionReference
from spotune.contracts.request import Gate
from spotune.contracts.scores import LOWER_IS_BETTER, Comparison, GoldenAnswer, Metric, Scores, SliceScores
from spotune.contracts.training import TrainingReport
from spotune.contracts.verdict import Verdict
from spotune.lifecycle.gate import judge, verdict_words
from tests.factories import champion, comparison, report

CHAMPION = champion()
SCORES = Scores(eval_loss=0.6, perplexity=1.8, exact_match=0.7)
JUDGED = report(champion=SCORES, against_champion=(comparison(),))
"""Of a model that is surely better than the champion by 0.05 nats or more."""


def golden(*met: bool) -> tuple[GoldenAnswer, ...]:
    return tuple(
        GoldenAnswer(line=line, prompt="?", expected="a", base="b", tuned="a", base_met=False, tuned_met=one)
        for line, one in enumerate(met, start=1)
    )


def part(name: str = "billing", rows: int = 20, **changes: object) -> SliceScores:
    return SliceScores(name=name, rows=rows, comparisons=(), against_champion=(comparison(rows=rows, **changes),))


def verdict(
    gate: dict[str, object], made: TrainingReport = JUDGED, against: ChampionReference | None = CHAMPION, cost: int = 0
) -> Verdict:
    return judge(Gate.model_validate(gate), made, against, cost)


WORSE = {"base": 0.5, "tuned": 0.9, "difference": 0.4, "low": 0.3, "high": 0.5}
UNSURE = {"base": 0.5, "tuned": 0.7, "difference": 0.2, "low": -0.1, "high": 0.5}
NO_BASE = {"better_than_base": False}
GOLDEN = {"golden_file": "file-golden", "min_golden": 0.75}


@pytest.mark.parametrize(
    ("gate", "made", "against", "decision", "said"),
    [
        ({}, JUDGED, None, "promote", "every condition is met"),
        (NO_BASE, JUDGED, None, "promote", "nothing was asked of it"),
        ({}, report(tuned=Scores(eval_loss=2.0, perplexity=7)), None, "reject", "below the base model's 2.0000"),
        ({"min_exact_match": 0.9}, JUDGED, None, "promote", ""),
        ({"min_exact_match": 0.91}, JUDGED, None, "reject", "90.0%"),
        (
            {"min_exact_match": 0.1},
            report(tuned=Scores(eval_loss=0.5, perplexity=2)),
            None,
            "hold",
            "no answer was generated",
        ),
        ({"better_than_champion": {}}, JUDGED, CHAMPION, "promote", ""),
        ({"better_than_champion": {"by": 0.049}}, JUDGED, CHAMPION, "promote", ""),
        ({"better_than_champion": {"by": 0.05}}, JUDGED, CHAMPION, "reject", "+0.0500 nats to +0.1500 nats"),
        ({"better_than_champion": {}}, report(), None, "promote", ""),
        ({"better_than_champion": {}}, report(), CHAMPION, "hold", "the report has no scores of it"),
        ({}, report(), CHAMPION, "hold", "ft:tiny:triage:old measured on the same rows"),
        ({}, report(), champion(obstacle="it was trained from other"), "hold", "it was trained from other"),
        ({"better_than_champion": {"metric": "rouge_l"}}, JUDGED, CHAMPION, "hold", "was not measured on both"),
        ({"no_slice_worse": {}}, JUDGED.with_(slices=(part(),)), CHAMPION, "promote", ""),
        ({"no_slice_worse": {}}, JUDGED.with_(slices=(part(), part("sales", **WORSE))), CHAMPION, "reject", "(sales)"),
        ({"no_slice_worse": {"by": 0.29}}, JUDGED.with_(slices=(part(**WORSE),)), CHAMPION, "reject", "-0.3000"),
        ({"no_slice_worse": {"by": 0.3}}, JUDGED.with_(slices=(part(**WORSE),)), CHAMPION, "promote", ""),
        ({"no_slice_worse": {}}, JUDGED.with_(slices=(part(**UNSURE),)), CHAMPION, "promote", ""),
        ({"no_slice_worse": {}}, JUDGED, CHAMPION, "hold", "no held-out row carries a slice"),
        ({"no_slice_worse": {}}, report(), None, "promote", ""),
        (GOLDEN, JUDGED.with_(golden=golden(True, True, True, False)), CHAMPION, "promote", ""),
        (GOLDEN, JUDGED.with_(golden=golden(True, False, True, False)), CHAMPION, "reject", "not those of line 2, 4"),
        (GOLDEN, JUDGED, CHAMPION, "hold", "not answered"),
        ({"approval": True}, JUDGED, CHAMPION, "hold", "nobody has approved it yet"),
        ({"approval": True, "min_exact_match": 1.0}, JUDGED, CHAMPION, "reject", "min_exact_match"),
    ],
)
def test_verdicts(
    gate: dict[str, object], made: TrainingReport, against: ChampionReference | None, decision: str, said: str
) -> None:
    given = verdict(gate, made, against)
    assert given.decision == decision
    assert said in given.reason
    assert given.champion == (against and against.name)


def test_a_dearer_job_is_held_and_one_at_the_maximum_is_not() -> None:
    assert verdict({"max_cost_usd": 2.0}, cost=2 * MICRO).decision == "promote"
    held = verdict({"max_cost_usd": 2.0}, cost=2 * MICRO + 1)
    assert held.decision == "hold"
    assert "at most $2.00" in held.reason


def test_more_is_better_of_every_metric_but_the_loss() -> None:
    better = comparison(metric="exact_match", base=0.5, tuned=0.7, difference=0.2, low=0.1, high=0.3)
    gate: dict[str, object] = {"better_than_champion": {"metric": "exact_match", "by": 0.09}}
    assert verdict(gate, JUDGED.with_(against_champion=(better,))).decision == "promote"
    worse = comparison(metric="exact_match", base=0.7, tuned=0.5, difference=-0.2, low=-0.3, high=-0.1)
    assert verdict(gate, JUDGED.with_(against_champion=(worse,))).decision == "reject"
    slices: dict[str, object] = {"no_slice_worse": {"metric": "exact_match"}}
    for compared, decision in ((better, "promote"), (worse, "reject")):
        found = SliceScores(name="billing", rows=9, comparisons=(), against_champion=(compared,))
        assert verdict(slices, JUDGED.with_(slices=(found,))).decision == decision


def test_a_slice_that_cannot_tell_is_undecided_and_named() -> None:
    few = part("rare", 3, **UNSURE)
    bare = SliceScores(name="bare", rows=2, comparisons=())
    given = verdict({"no_slice_worse": {}}, JUDGED.with_(slices=(part(), few, bare), slices_left_out=7))
    assert given.decision == "promote"
    lines = {one.subject: one.measured for one in given.conditions if one.name == "no_slice_worse"}
    assert lines.keys() == {"billing", "rare", "bare", "7 smaller slices"}
    assert [name for name, words in lines.items() if words.startswith("undecided")] == [
        "rare",
        "bare",
        "7 smaller slices",
    ]


def test_the_verdict_in_a_sentence() -> None:
    assert verdict_words(verdict({})) == "passed"
    assert verdict_words(verdict({"approval": True})).startswith("held: approval: nobody has approved it yet")
    failed = verdict({"min_exact_match": 0.95})
    assert (
        verdict_words(failed) == "rejected: min_exact_match: 90.0%, where exact match of at least 95.0% was asked for"
    )


# --- Whatever the gate and the report ---------------------------------------------------------------------------

METRICS: tuple[Metric, ...] = ("eval_loss", "exact_match")
VALUES = st.floats(-3, 3)
BROKEN = st.sampled_from([math.nan, math.inf, -math.inf])


@st.composite
def comparisons(draw: st.DrawFn, metric: Metric) -> Comparison:
    low, difference, high = sorted(draw(st.tuples(VALUES, VALUES, VALUES)))
    base = draw(VALUES)
    return Comparison(
        metric=metric, rows=9, base=base, tuned=base + difference, difference=difference, low=low, high=high
    )


@st.composite
def gates(draw: st.DrawFn) -> Gate:
    by = st.floats(0, 1)
    condition = st.none() | st.fixed_dictionaries({"metric": st.sampled_from(METRICS), "by": by})
    return Gate.model_validate(
        {
            "better_than_base": draw(st.booleans()),
            "min_exact_match": draw(st.none() | st.floats(0, 1)),
            "better_than_champion": draw(condition),
            "no_slice_worse": draw(condition),
            "golden_file": draw(st.none() | st.just("file-golden")),
            "min_golden": draw(st.floats(0, 1)),
            "max_cost_usd": draw(st.none() | st.floats(0.1, 9)),
            "approval": draw(st.booleans()),
        }
    )


@st.composite
def reports(draw: st.DrawFn) -> TrainingReport:
    exact = draw(st.none() | st.floats(0, 1))
    compared = [draw(comparisons(metric)) for metric in METRICS if draw(st.booleans())]
    slices = [
        SliceScores(
            name=name, rows=9, comparisons=(), against_champion=(draw(comparisons(draw(st.sampled_from(METRICS)))),)
        )
        for name in draw(st.sets(st.sampled_from("abc")))
    ]
    return report(
        base=Scores(eval_loss=draw(st.floats(0, 3)), perplexity=None),
        tuned=Scores(eval_loss=draw(st.floats(0, 3)), perplexity=None, exact_match=exact),
        champion=draw(st.none() | st.just(SCORES)),
        against_champion=tuple(compared),
        slices=tuple(slices),
        golden=golden(*draw(st.lists(st.booleans(), max_size=4))),
    )


def improved(made: Comparison, by: float) -> Comparison:
    shift = -by if made.metric in LOWER_IS_BETTER else by
    moved = {name: getattr(made, name) + shift for name in ("tuned", "difference", "low", "high")}
    return made.with_(**moved)


def better(made: TrainingReport, by: float) -> TrainingReport:
    """The report of a model that does everything better by so much."""
    exact = made.tuned.exact_match
    return made.with_(
        tuned=made.tuned.with_(
            eval_loss=made.tuned.eval_loss - by, exact_match=None if exact is None else min(exact + by, 1.0)
        ),
        against_champion=tuple(improved(one, by) for one in made.against_champion),
        slices=tuple(
            one.with_(against_champion=tuple(improved(each, by) for each in one.against_champion))
            for one in made.slices
        ),
        golden=tuple(one.with_(tuned_met=True) for one in made.golden),
    )


CHAMPIONS = st.sampled_from([None, CHAMPION])
COSTS = st.integers(0, 10 * MICRO)
ORDER = {"reject": 0, "hold": 1, "promote": 2}


@settings(max_examples=300)
@given(gates(), reports(), CHAMPIONS, COSTS, st.floats(0, 2))
def test_a_better_report_never_turns_the_verdict_worse(
    gate: Gate, made: TrainingReport, against: ChampionReference | None, cost: int, by: float
) -> None:
    before, after = judge(gate, made, against, cost), judge(gate, better(made, by), against, cost)
    assert ORDER[after.decision] >= ORDER[before.decision], (before.reason, after.reason)


@settings(max_examples=200)
@given(gates(), reports(), CHAMPIONS, COSTS)
def test_every_condition_that_is_asked_for_is_named_once_and_none_that_is_not(
    gate: Gate, made: TrainingReport, against: ChampionReference | None, cost: int
) -> None:
    given_conditions = judge(gate, made, against, cost).conditions
    lines = [(one.name, one.subject) for one in given_conditions]
    assert len(lines) == len(set(lines))
    asked = {
        "better_than_base": gate.better_than_base,
        "min_exact_match": gate.min_exact_match is not None,
        "better_than_champion": gate.better_than_champion is not None,
        "no_slice_worse": gate.no_slice_worse is not None,
        "min_golden": gate.golden_file is not None,
        "max_cost_usd": gate.max_cost_usd is not None,
        "approval": gate.approval,
        "champion": against is not None and made.champion is None,
    }
    assert {name for name, _ in lines} == {name for name, wanted in asked.items() if wanted}
    assert all(one.wanted and one.measured for one in given_conditions)


@settings(max_examples=200)
@given(gates(), reports(), COSTS, BROKEN, st.sampled_from(["tuned", "base", "compared", "slice"]), st.data())
def test_what_is_not_finite_is_never_promoted(
    gate: Gate, made: TrainingReport, cost: int, broken: float, where: str, data: st.DataObject
) -> None:
    gate = gate.with_(better_than_base=True, better_than_champion={"metric": "eval_loss"}, no_slice_worse={})
    field = data.draw(st.sampled_from(["base", "tuned", "difference", "low", "high"]))
    spoilt = comparison(**{field: broken})
    if where == "tuned":
        made = made.with_(tuned=made.tuned.model_copy(update={"eval_loss": broken}))
    elif where == "base":
        made = made.with_(base=made.base.model_copy(update={"eval_loss": broken}))
    elif where == "compared":
        made = made.with_(against_champion=(spoilt,))
    else:
        made = made.with_(slices=(SliceScores(name="a", rows=9, comparisons=(), against_champion=(spoilt,)),))
    assert judge(gate, made, CHAMPION, cost).decision != "promote"


EVERYTHING: dict[str, object] = {"better_than_champion": {}, "no_slice_worse": {}, "min_exact_match": 0.5}


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", ["base", "tuned", "difference", "low", "high"])
@pytest.mark.parametrize("where", ["overall", "slice"])
def test_one_figure_that_is_not_finite_spoils_what_would_be_promoted(where: str, field: str, broken: float) -> None:
    good = JUDGED.with_(slices=(part(),))
    assert verdict(EVERYTHING, good).decision == "promote"
    spoilt = comparison(**{field: broken})
    if where == "overall":
        made = good.with_(against_champion=(spoilt,))
    else:
        made = good.with_(slices=(SliceScores(name="billing", rows=9, comparisons=(), against_champion=(spoilt,)),))
    assert verdict(EVERYTHING, made).decision == ("reject" if field == "tuned" else "hold")


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_base_without_a_finite_loss_is_no_base_to_be_better_than(broken: float) -> None:
    assert verdict({}, report(base=Scores(eval_loss=broken, perplexity=None)), None).decision == "hold"
    assert verdict({}, report(tuned=Scores(eval_loss=broken, perplexity=None)), None).decision == "reject"


def test_a_model_without_a_finite_loss_is_rejected_by_a_gate_that_asks_for_nothing() -> None:
    broken = report(tuned=Scores(eval_loss=math.nan, perplexity=None))
    given_verdict = verdict(NO_BASE, broken, None)
    assert (given_verdict.decision, given_verdict.conditions[0].name) == ("reject", "finite_loss")
