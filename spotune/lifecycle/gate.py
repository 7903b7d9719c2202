"""The gate: whether a tuned model may replace its group's champion, and the table that says why."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from spotune.contracts.base import MICRO, MicroUSD, dollars
from spotune.contracts.job import ChampionReference
from spotune.contracts.request import Gate, Improvement, SliceFloor
from spotune.contracts.scores import IN_NATS, LOWER_IS_BETTER, METRIC_NAMES, Comparison, Metric
from spotune.contracts.training import TrainingReport
from spotune.contracts.verdict import Condition, GateDecision, Verdict

NAMED_LINES = 10
"""Golden prompts that were not answered as expected are named up to this many."""


def judge(gate: Gate, report: TrainingReport, champion: ChampionReference | None, cost: MicroUSD) -> Verdict:
    """The verdict on a tuned model.

    A condition that is not met rejects. One that could not be measured, a cost above the maximum and an approval that
    is asked for hold: a person decides. What is not finite is never met.

    Args:
        report: the container's; its intervals are those of a paired bootstrap, 95 %.
        champion: what the tuned model would replace; None where its group has none, or where it stands alone.
        cost: what the job was billed.
    """
    conditions = tuple(_conditions(gate, report, champion, cost))
    decision = _decision(conditions)
    return Verdict(
        decision=decision,
        conditions=conditions,
        champion=None if champion is None else champion.name,
        reason=_reason(decision, conditions),
    )


def verdict_words(verdict: Verdict) -> str:
    """The verdict in a sentence."""
    if verdict.decision == "promote":
        return "passed"
    return f"{'rejected' if verdict.decision == 'reject' else 'held'}: {verdict.reason}"


def condition_words(one: Condition) -> str:
    """A condition in a sentence."""
    subject = f" ({one.subject})" if one.subject else ""
    return f"{one.name}{subject}: {one.measured}, where {one.wanted} was asked for"


def _conditions(
    gate: Gate, report: TrainingReport, champion: ChampionReference | None, cost: MicroUSD
) -> Iterator[Condition]:
    """In the order of the gate's fields, after what is asked of every model."""
    if not math.isfinite(report.tuned.eval_loss):
        yield _condition("finite_loss", "a finite held-out loss", f"{report.tuned.eval_loss}", met=False)
    if champion is not None and report.champion is None:
        why = champion.obstacle or "the report has no scores of it"
        yield _condition("champion", f"{champion.name} measured on the same rows", f"not measured: {why}", met=None)
    if gate.better_than_base:
        yield _better_than_base(report)
    if gate.min_exact_match is not None:
        yield _exact_match(gate.min_exact_match, report)
    if gate.better_than_champion is not None:
        yield _better_than_champion(gate.better_than_champion, report, champion)
    if gate.no_slice_worse is not None:
        yield from _slices(gate.no_slice_worse, report, champion)
    if gate.golden_file is not None:
        yield _golden(gate.min_golden, report)
    if gate.max_cost_usd is not None:
        most = round(gate.max_cost_usd * MICRO)
        yield _condition("max_cost_usd", f"at most {dollars(most)}", dollars(cost), met=True if cost <= most else None)
    if gate.approval:
        yield _condition("approval", "a person's approval", "nobody has approved it yet", met=None)


def _condition(name: str, wanted: str, measured: str, *, met: bool | None, subject: str = "") -> Condition:
    return Condition(name=name, subject=subject, wanted=wanted, measured=measured, met=met)


def _better_than_base(report: TrainingReport) -> Condition:
    base, tuned = report.base.eval_loss, report.tuned.eval_loss
    compared = next((one for one in report.comparisons if one.metric == "eval_loss"), None)
    interval = "" if compared is None else f"; {_gained(compared)}"
    return _condition(
        "better_than_base",
        f"held-out loss below the base model's {base:.4f}",
        f"{tuned:.4f}{interval}",
        met=_decided(tuned, (base,), tuned < base),
    )


def _exact_match(minimum: float, report: TrainingReport) -> Condition:
    reached, wanted = report.tuned.exact_match, f"exact match of at least {minimum:.1%}"
    if reached is None:
        return _condition("min_exact_match", wanted, "no answer was generated: no held-out row has a prompt", met=None)
    return _condition("min_exact_match", wanted, f"{reached:.1%}", met=_decided(reached, (), reached >= minimum))


def _better_than_champion(asked: Improvement, report: TrainingReport, champion: ChampionReference | None) -> Condition:
    name, metric = "better_than_champion", METRIC_NAMES[asked.metric]
    if champion is None:
        return _condition(name, f"{metric} better than the champion's", "its group has no champion", met=True)
    beyond = f" by more than {_amount(asked.metric, asked.by)}" if asked.by else ""
    wanted = f"{metric} better than {champion.name}'s{beyond}, with 95 % confidence"
    compared = _of(asked.metric, report.against_champion)
    if compared is None:
        return _condition(name, wanted, f"{metric} was not measured on both", met=None)
    gain = _gain(compared)
    return _condition(name, wanted, _compared_words(compared), met=_sure(compared, gain.low > asked.by))


def _slices(floor: SliceFloor, report: TrainingReport, champion: ChampionReference | None) -> Iterator[Condition]:
    """A line for each slice, or one that says why there is none."""
    name, metric = "no_slice_worse", METRIC_NAMES[floor.metric]
    if champion is None:
        yield _condition(name, f"{metric} of no slice worse", "its group has no champion", met=True)
        return
    wanted = f"{metric} no worse than {champion.name}'s"
    wanted += f" by more than {_amount(floor.metric, floor.by)}" if floor.by else ""
    measured = {one.name: _of(floor.metric, one.against_champion) for one in report.slices}
    if not any(measured.values()):
        why = f"{metric} was measured for none of them" if measured else "no held-out row carries a slice"
        yield _condition(name, f"{wanted} for any slice", why, met=None)
        return
    for part in report.slices:
        yield _slice(floor, wanted, part.name, part.rows, measured[part.name])
    if report.slices_left_out:
        subject = f"{report.slices_left_out} smaller slices"
        yield _condition(name, wanted, "undecided: too small to be reported", met=True, subject=subject)


def _slice(floor: SliceFloor, wanted: str, name: str, rows: int, compared: Comparison | None) -> Condition:
    """Worse is only what is surely worse: a slice of few rows cannot tell, and says so."""
    if compared is None:
        measured = f"undecided: measured on none of its {rows} rows"
        return _condition("no_slice_worse", wanted, measured, met=True, subject=name)
    gain = _gain(compared)
    measured, met = _compared_words(compared), _sure(compared, not gain.high < -floor.by)
    if met and gain.low < -floor.by:
        measured = f"undecided: {measured}"
    return _condition("no_slice_worse", wanted, measured, met=met, subject=name)


def _golden(minimum: float, report: TrainingReport) -> Condition:
    wanted = f"at least {minimum:.1%} of the golden prompts answered as expected"
    if not report.golden:
        return _condition("min_golden", wanted, "they were not answered", met=None)
    missed = [str(answer.line) for answer in report.golden if not answer.tuned_met]
    share = 1 - len(missed) / len(report.golden)
    measured = f"{len(report.golden) - len(missed)} of {len(report.golden)} ({share:.1%})"
    if missed:
        more = f" and {len(missed) - NAMED_LINES} more" if len(missed) > NAMED_LINES else ""
        measured += f", not those of line {', '.join(missed[:NAMED_LINES])}{more}"
    enough = len(report.golden) - len(missed) >= minimum * len(report.golden) - 1e-9
    return _condition("min_golden", wanted, measured, met=enough)


class _Gain(NamedTuple):
    """By how much the tuned model is better, in the metric's own unit; below 0 where it is worse."""

    mid: float
    low: float
    high: float


def _gain(compared: Comparison) -> _Gain:
    if compared.metric in LOWER_IS_BETTER:
        return _Gain(-compared.difference, -compared.high, -compared.low)
    return _Gain(compared.difference, compared.low, compared.high)


def _of(metric: Metric, comparisons: Sequence[Comparison]) -> Comparison | None:
    return next((one for one in comparisons if one.metric == metric), None)


def _sure(compared: Comparison, met: bool) -> bool | None:
    return _decided(compared.tuned, (compared.base, compared.difference, compared.low, compared.high), met)


def _decided(tuned: float, others: tuple[float, ...], met: bool) -> bool | None:
    """What was found, where it stands on finite figures alone. A tuned model without them fails."""
    if not math.isfinite(tuned):
        return False
    return met if all(map(math.isfinite, others)) else None


def _compared_words(compared: Comparison) -> str:
    figures = f"{_amount(compared.metric, compared.tuned)} against {_amount(compared.metric, compared.base)}"
    return f"{figures} on {compared.rows} rows; {_gained(compared)}"


def _gained(compared: Comparison) -> str:
    gain = _gain(compared)
    low, high = (_amount(compared.metric, value, signed=True) for value in (gain.low, gain.high))
    return f"gain {_amount(compared.metric, gain.mid, signed=True)} (95 %: {low} to {high})"


def _amount(metric: Metric, value: float, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{value:{sign}.4f} nats" if metric in IN_NATS else f"{value:{sign}.1%}"


def _decision(conditions: Sequence[Condition]) -> GateDecision:
    if any(one.met is False for one in conditions):
        return "reject"
    return "hold" if any(one.met is None for one in conditions) else "promote"


def _reason(decision: GateDecision, conditions: Sequence[Condition]) -> str:
    if decision == "promote":
        return "every condition is met" if conditions else "nothing was asked of it"
    decisive = [one for one in conditions if one.met is (False if decision == "reject" else None)]
    return "; ".join(map(condition_words, decisive))
