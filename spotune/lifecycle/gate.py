"""Whether a tuned model may be registered."""

from __future__ import annotations

from spotune.contracts.request import Gate
from spotune.contracts.training import TrainingReport


def failed_conditions(gate: Gate, report: TrainingReport) -> tuple[str, ...]:
    """The gate's conditions that the report does not meet, in words; empty where it passes."""
    failed = []
    if gate.better_than_base and not report.tuned.eval_loss < report.base.eval_loss:
        failed.append(
            f"held-out loss {report.tuned.eval_loss:.4f} is not below the base model's {report.base.eval_loss:.4f}"
        )
    if gate.min_exact_match is not None:
        failed += _exact_match(gate.min_exact_match, report)
    return tuple(failed)


def _exact_match(minimum: float, report: TrainingReport) -> list[str]:
    reached = report.tuned.exact_match
    if reached is None:
        return ["exact match was asked for, but no answer was generated: no held-out row has a prompt"]
    return [f"exact match {reached:.1%} is below {minimum:.1%}"] if reached < minimum else []
