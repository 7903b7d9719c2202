"""For each instance type that was not chosen, the one reason that decided, in words."""

from __future__ import annotations

from collections.abc import Iterator

from spotune.contracts.base import dollars
from spotune.contracts.market import quota_name
from spotune.contracts.plan import Rejection
from spotune.planner.catalog import InstanceSpec
from spotune.planner.limits import Limits
from spotune.planner.options import Option
from spotune.planner.search import Search

_MARKETS = {"spot": "spot", "on_demand": "on-demand"}


def reject_others(found: Search, chosen: Option) -> Iterator[Rejection]:
    """One reason for every type but the chosen one."""
    best = _best_by_type(found)
    for spec in found.catalog:
        if spec is chosen.spec:
            continue
        if not found.limits.allows(spec):
            yield Rejection(
                instance_type=spec.instance_type, rule="not_allowed", reason="not among constraints.instance_types"
            )
        elif spec.instance_type in best:
            yield _outdone(best[spec.instance_type], found.limits, chosen)
        else:
            yield _impossible(found, spec)


def reject_impossible(found: Search) -> list[Rejection]:
    """The reasons of the allowed types that cannot do the run at all, whatever it may cost and take."""
    possible = {option.spec.instance_type for option in found.permitted}
    allowed = [spec for spec in found.catalog if found.limits.allows(spec)]
    return [_impossible(found, spec) for spec in allowed if spec.instance_type not in possible]


def _best_by_type(found: Search) -> dict[str, Option]:
    """Each type's cheapest option, one within every constraint where it has one."""
    best: dict[str, Option] = {}
    for option in (*found.feasible, *found.permitted):
        best.setdefault(option.spec.instance_type, option)
    return best


def _outdone(option: Option, limits: Limits, chosen: Option) -> Rejection:
    name, where = option.spec.instance_type, _MARKETS[option.market]
    if not limits.affords(option):
        needed = f"needs {dollars(option.needed_cap)} on {where} to be sure to finish; the cap is {dollars(limits.cap)}"
        return Rejection(instance_type=name, rule="budget", reason=needed)
    if not limits.in_time(option):
        late = (
            f"may take {limits.sure_hours(option):.1f} h on {where}, queue included; the deadline is {limits.hours:g} h"
        )
        return Rejection(instance_type=name, rule="deadline", reason=late)
    ratio = option.cost.mid / chosen.cost.mid
    cost = f"{dollars(round(option.cost.mid))} expected on {where}, {ratio:.2f}x the chosen"
    return Rejection(instance_type=name, rule="cost", reason=cost)


def _impossible(found: Search, spec: InstanceSpec) -> Rejection:
    """The search's verdict; for a type that holds the run the account's quota, interruptions, or no price."""
    name, limits = spec.instance_type, found.limits
    if name in found.verdicts:
        return found.verdicts[name]
    offered = [option for option in found.options if option.spec is spec and limits.wants(option)]
    if not offered:
        markets = " or ".join(_MARKETS[market] for market in sorted(limits.markets))
        regions = found.regions if limits.regions is None else ", ".join(sorted(limits.regions))
        return Rejection(instance_type=name, rule="market", reason=f"no {markets} price is known in {regions}")
    option = min(offered, key=lambda option: (not option.ends, not limits.ends(option), option.count, option.cost.mid))
    if not option.ends:
        reason = "is interrupted so often that a run would never end: each restart takes longer than it lasts"
        return Rejection(instance_type=name, rule="interruptions", reason=reason)
    if not limits.ends(option):
        needed, most = option.needed_runtime / 3600, limits.longest / 3600
        reason = f"may run for {needed:.1f} h; the installation lets a training job run for {most:g} h"
        return Rejection(instance_type=name, rule="runtime", reason=reason)
    quota = quota_name(name, option.market)
    reason = f"the account's quota of {quota} is {option.quota}, {option.count} needed: ask for more"
    return Rejection(instance_type=name, rule="quota", reason=reason)
