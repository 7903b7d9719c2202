"""`plan --explain`: why one instance type was not chosen, and what the job would take on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from spotune.cli import words
from spotune.cli.jobfile import Draft
from spotune.contracts.api import PlanObject
from spotune.contracts.base import Contract
from spotune.contracts.errors import NotFound, RequestRefused
from spotune.contracts.plan import Candidate, Rejection


class Explanation(Contract):
    """The one reason, and the plan with this type alone; why there is none, where it cannot be planned."""

    instance_type: str
    chosen: Candidate
    """The plan's own choice."""
    rejection: Rejection | None
    """None for the chosen type."""
    alone: Candidate | None = None
    refusal: str = ""


def explain(instance_type: str, answer: PlanObject, draft: Draft, ask: Callable[[Draft], PlanObject]) -> Explanation:
    """Look the reason up, and plan again with this type as the only one that is allowed.

    Raises:
        NotFound: the catalog has no such type.
    """
    plan = answer.plan
    rejection = next((one for one in plan.rejections if one.instance_type == instance_type), None)
    if instance_type == plan.chosen.instance_type:
        return Explanation(instance_type=instance_type, chosen=plan.chosen, rejection=None, alone=plan.chosen)
    if rejection is None:
        raise NotFound(
            f"There is no instance type {instance_type} in the catalog.",
            code="unknown_instance_type",
            remedy="See them all with `spotune catalog`.",
        )
    try:
        alone = ask(_only(draft, instance_type)).plan.chosen
    except RequestRefused as refused:
        return Explanation(instance_type=instance_type, chosen=plan.chosen, rejection=rejection, refusal=str(refused))
    return Explanation(instance_type=instance_type, chosen=plan.chosen, rejection=rejection, alone=alone)


def lines(explanation: Explanation) -> Iterator[str]:
    """The explanation in words."""
    name, chosen = explanation.instance_type, explanation.chosen
    if explanation.rejection is None:
        yield f"{name} is the chosen type: {words.money(chosen.cost)} in {words.hours(chosen.wall_hours)}."
        yield from _transfer(chosen)
        return
    yield f"{name} was rejected ({explanation.rejection.rule}): {explanation.rejection.reason}."
    if explanation.alone is None:
        yield f"With this type alone: {explanation.refusal}"
        return
    alone = explanation.alone
    ratio = alone.cost.mid / chosen.cost.mid
    yield (
        f"With this type alone: {words.machines(alone)} on {words.place(alone)}, {alone.method}, "
        f"{words.money(alone.cost)}, done in {words.hours(alone.wall_hours)}; {ratio:.2f}x the cost of "
        f"{words.machines(chosen)} on {words.place(chosen)}."
    )
    yield from _transfer(alone)
    yield (
        f"Memory a GPU: up to {words.size(alone.memory.p95)} of {words.size(alone.memory.usable)}; "
        f"{alone.tokens_per_second.mid:,.0f} tokens/s; {alone.interruptions:.2f} interruptions expected."
    )


def _transfer(candidate: Candidate) -> Iterator[str]:
    if candidate.transfer:
        yield f"It runs in {candidate.region}: {words.transfer(candidate)}."


def _only(draft: Draft, instance_type: str) -> Draft:
    request = draft.request
    constraints = request.constraints.with_(instance_types=(instance_type,))
    return replace(draft, request=request.with_(constraints=constraints))
