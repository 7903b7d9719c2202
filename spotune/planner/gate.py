"""What a gate may not ask for: what the job does not measure, and what has no meaning without a group."""

from __future__ import annotations

from spotune.contracts.errors import RequestRefused
from spotune.contracts.request import Gate, JobRequest, Objective, RegistryChoice
from spotune.contracts.scores import Metric

ANSWERED = frozenset[Metric]({"exact_match", "rouge_l", "json_valid", "json_keys"})
"""Scored on generated answers."""
_PREFERENCES = frozenset[Metric]({"preference_accuracy", "preference_margin"})
COMPARABLE: dict[Objective, frozenset[Metric]] = {
    "supervised": ANSWERED | {"eval_loss", "multiple_choice"},
    "dpo": ANSWERED | _PREFERENCES | {"multiple_choice"},
    "orpo": ANSWERED | _PREFERENCES | {"multiple_choice"},
    "kto": ANSWERED | _PREFERENCES | {"multiple_choice"},
}
"""What each objective measures on every row, so that differences have intervals."""


def check_gate(request: JobRequest) -> None:
    """Refuse conditions that could never be decided, or that would decide nothing.

    Raises:
        RequestRefused: names the field, the rule and the way out.
    """
    _check_group(request)
    _check_answers(request)
    _check_metrics(request)
    _check_golden(request)


def _check_group(request: JobRequest) -> None:
    gate, registry = request.gate, request.registry
    if registry.group is not None:
        return
    lonely = {
        "gate.better_than_champion": gate.better_than_champion is not None,
        "gate.no_slice_worse": gate.no_slice_worse is not None,
        "gate.max_cost_usd": gate.max_cost_usd is not None,
        "gate.approval": gate.approval,
        "registry.start_from": registry.start_from != RegistryChoice().start_from,
    }
    for field in (name for name, asked in lonely.items() if asked):
        raise RequestRefused(
            f"{field} is given, but registry.group is not: there is no champion to be compared with or replaced.",
            code="group_missing",
            param=field,
            remedy="Name the model group in registry.group, or leave the field out.",
        )


def _check_answers(request: JobRequest) -> None:
    if request.training.generation_examples:
        return
    if request.gate.min_exact_match is not None:
        raise RequestRefused(
            "gate.min_exact_match is given, but training.generation_examples is 0: no answer would be generated.",
            code="conflicting_settings",
            param="gate.min_exact_match",
            remedy="Set training.generation_examples, or leave the condition out.",
        )
    for field, metric in _metrics(request.gate):
        if metric in ANSWERED:
            raise RequestRefused(
                f"{field} is {metric}, but training.generation_examples is 0: no answer would be generated.",
                code="conflicting_settings",
                param=field,
                remedy="Set training.generation_examples, or name another metric.",
            )


def _check_metrics(request: JobRequest) -> None:
    measured = COMPARABLE[request.objective]
    for field, metric in _metrics(request.gate):
        if metric not in measured:
            raise RequestRefused(
                f"{field} is {metric}, which method.type {request.objective} does not measure row by row.",
                code="metric_not_measured",
                param=field,
                remedy=f"Name one of: {', '.join(sorted(measured))}.",
            )


def _check_golden(request: JobRequest) -> None:
    if request.gate.golden_file is None and request.gate.min_golden != Gate().min_golden:
        raise RequestRefused(
            "gate.min_golden is given, but gate.golden_file is not: there are no golden prompts.",
            code="conflicting_settings",
            param="gate.min_golden",
            remedy="Name the file in gate.golden_file, or leave the field out.",
        )


def _metrics(gate: Gate) -> tuple[tuple[str, Metric], ...]:
    asked = {
        "gate.better_than_champion.metric": gate.better_than_champion,
        "gate.no_slice_worse.metric": gate.no_slice_worse,
    }
    return tuple((field, condition.metric) for field, condition in asked.items() if condition is not None)
