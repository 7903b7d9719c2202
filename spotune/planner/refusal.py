"""What to say where no option meets the constraints: the cheapest and the fastest that would."""

from __future__ import annotations

from collections.abc import Sequence

from spotune.contracts.base import MICRO, dollars
from spotune.contracts.errors import PlanRefused
from spotune.planner.limits import Limits
from spotune.planner.options import Option
from spotune.planner.rejections import reject_impossible
from spotune.planner.search import Search, describe_miss


def refuse(found: Search) -> PlanRefused:
    """The error for a search without a feasible option."""
    limits = found.limits
    permitted = found.permitted
    if not permitted:
        return _nothing_permitted(found)
    in_time = [option for option in permitted if limits.in_time(option)]
    affordable = [option for option in permitted if limits.affords(option)]
    if in_time:
        return _budget_too_small(found, in_time)
    if affordable:
        return _deadline_too_short(found, affordable)
    return _neither(found, permitted)


def _budget_too_small(found: Search, options: Sequence[Option]) -> PlanRefused:
    limits = found.limits
    best = min(options, key=lambda option: option.needed_cap)
    within = "" if limits.hours is None else f" within {limits.hours:g} h"
    return PlanRefused(
        f"No plan{within} is sure to finish under {dollars(limits.cap)}: the cheapest is {_offer(best, limits)}.",
        code="budget_too_small",
        param="constraints.budget_usd",
        remedy=f"Set constraints.budget_usd to {_round_up(best):.2f} or more, or train fewer epochs.",
        details={"cheapest": _facts(best, limits), **_rejections(found)},
    )


def _deadline_too_short(found: Search, options: Sequence[Option]) -> PlanRefused:
    limits = found.limits
    best = min(options, key=limits.sure_hours)
    return PlanRefused(
        f"No plan under {dollars(limits.cap)} is sure to finish within {limits.hours:g} h: "
        f"the fastest is {_offer(best, limits)}.",
        code="deadline_too_short",
        param="constraints.finish_within_hours",
        remedy=f"Allow {_hours(best, limits)} h or more, or raise the budget, which may allow a faster type.",
        details={"fastest": _facts(best, limits), **_rejections(found)},
    )


def _neither(found: Search, options: Sequence[Option]) -> PlanRefused:
    limits = found.limits
    cheapest = min(options, key=lambda option: option.needed_cap)
    fastest = min(options, key=limits.sure_hours)
    return PlanRefused(
        f"Nothing finishes within {limits.hours:g} h, and nothing under {dollars(limits.cap)}: "
        f"the cheapest is {_offer(cheapest, limits)}, the fastest {_offer(fastest, limits)}.",
        code="constraints_unmet",
        param="constraints",
        remedy="Raise both constraints.budget_usd and constraints.finish_within_hours.",
        details={"cheapest": _facts(cheapest, limits), "fastest": _facts(fastest, limits), **_rejections(found)},
    )


def _nothing_permitted(found: Search) -> PlanRefused:
    limits = found.limits
    misses = [(machines, fit) for machines, fit in found.misses if limits.allows(machines.spec)]
    if misses:
        machines, fit = min(misses, key=lambda miss: miss[1].memory.p95 - miss[1].memory.usable)
        return PlanRefused(
            f"The run fits on no GPU that is allowed; the nearest is "
            f"{machines.spec.instance_type}: {describe_miss(machines, fit)}.",
            code="model_does_not_fit",
            param="model",
            remedy="Shorten training.max_sequence_length, lower adapter.rank, let adapter.type be qlora and "
            "training.gradient_checkpointing be auto, allow larger types, or take a smaller model.",
            details=_rejections(found),
        )
    return _nothing_usable(found)


def _nothing_usable(found: Search) -> PlanRefused:
    limits, verdicts = found.limits, reject_impossible(found)
    free = limits == limits.without_choices()
    which = "No instance type" if free else "None of the allowed instance types"
    where = "" if free else " in the allowed market and region"
    first = f" {verdicts[0].instance_type}: {verdicts[0].reason}." if verdicts else " The catalog is empty."
    remedies = {
        "market": "Refresh the market (docs/market.md), or look at it with `spotune catalog`.",
        "disk": "Publish fewer outputs, train an adapter, or give a smaller file.",
        "quota": "Ask for the quota in the Service Quotas console; `spotune catalog` lists those that there are.",
    }
    widen = "Leave constraints.instance_types and constraints.regions out, or set constraints.market to auto."
    return PlanRefused(
        f"{which} can be used{where}.{first}",
        code="no_candidate",
        param="constraints",
        remedy=remedies.get(verdicts[0].rule, widen) if free and verdicts else widen,
        details=_rejections(found),
    )


def _offer(option: Option, limits: Limits) -> str:
    market = "spot" if option.market == "spot" else "on-demand"
    needs = f"which needs {dollars(option.needed_cap)} and up to {_hours(option, limits)} h"
    return f"{option.spec.instance_type} ({market}), {needs}"


def _facts(option: Option, limits: Limits) -> dict[str, object]:
    return {
        "instance_type": option.spec.instance_type,
        "market": option.market,
        "expected_cost_usd": round(option.cost.mid / MICRO, 6),
        "needed_budget_usd": _round_up(option),
        "needed_hours": float(_hours(option, limits)),
    }


def _round_up(option: Option) -> float:
    """Dollars to the cent, upwards."""
    return -(-option.needed_cap // 10_000) / 100


def _hours(option: Option, limits: Limits) -> str:
    """Hours to the tenth, upwards."""
    return f"{-(-limits.sure_hours(option) // 0.1) / 10:.1f}"


def _rejections(found: Search) -> dict[str, object]:
    return {"rejections": [verdict.model_dump() for verdict in reject_impossible(found)]}
