"""The ladder: spot rungs one after another, each with its patience, then on-demand while the deadline still holds.

`spot_policy.py` says how long spot may be waited for; here that time is shared out.
"""

from __future__ import annotations

from collections.abc import Sequence

from spotune.contracts.base import Timestamp
from spotune.contracts.deadlines import last_safe_moment, patience
from spotune.contracts.plan import Fallback, HardwareConfig, Rung
from spotune.planner.layouts import micro_batches
from spotune.planner.limits import Limits
from spotune.planner.options import Option
from spotune.planner.workload import REPLICATED

SPOT_RUNGS = 3
ON_DEMAND_TYPES = 5
"""What SageMaker's InstancePreferences takes."""
DEAREST_ON_DEMAND = 2.0
"""An on-demand type is listed up to this multiple of the cheapest one's price: the dearest sets what a cap allows."""
PATIENCE_SECONDS = 1800
"""Of each spot rung; with a deadline the last one waits for as long as the rule allows."""
SHORTEST_PATIENCE = 300
"""Where each rung would get less, there is but one."""
LAST_PATIENCE_SECONDS = 24 * 3600
"""Of the last rung, where no deadline ends it."""


def build_ladder(chosen: Option, feasible: Sequence[Option], limits: Limits) -> tuple[Rung, ...]:
    """Rungs for the chosen option.

    Args:
        chosen: the first rung's.
        feasible: options within every constraint, cheapest first. Those that cannot go on from the chosen one's
            checkpoints are left out: another region, method, or way to share out the optimizer's state. Where each GPU
            has all of it, any number of them goes on.
    """
    same = [option for option in feasible if _continues(option, chosen)]
    on_demand = _on_demand(chosen, same)
    if chosen.market == "on_demand":
        return (_on_demand_rung(on_demand, limits.hours),)
    spot = [option for option in same if option.market == "spot"]
    if not on_demand:
        kept = spot[:SPOT_RUNGS]
        return _spot_rungs(kept, [*[PATIENCE_SECONDS] * (len(kept) - 1), _last_patience(limits.hours)])
    cheaper = [option for option in spot if option.cost.mid <= on_demand[0].cost.mid][:SPOT_RUNGS] or [chosen]
    waits = _waits(len(cheaper), on_demand, limits)
    return (*_spot_rungs(cheaper[: len(waits)], waits), _on_demand_rung(on_demand, limits.hours))


def state_fallback(chosen: Option, feasible: Sequence[Option], limits: Limits, now: Timestamp) -> Fallback | None:
    """What going on-demand takes, and until when it may be put off; None without a deadline or such a rung."""
    on_demand = _on_demand(chosen, [option for option in feasible if _continues(option, chosen)])
    if limits.hours is None or not on_demand:
        return None
    work, beyond = _work(on_demand), _fallback(on_demand, limits)
    by = now + max(last_safe_moment(work, limits.hours * 3600, beyond), 0.0)
    return Fallback(by=by, work=round(work), beyond=round(beyond))


def _continues(option: Option, chosen: Option) -> bool:
    one, other = option.fit.layout, chosen.fit.layout
    if (option.region, option.fit.work.method) != (chosen.region, chosen.fit.work.method):
        return False
    if {one.sharding, other.sharding} <= REPLICATED:
        return True
    return (one.sharding, one.offload, one.gpus) == (other.sharding, other.offload, other.gpus)


def hardware_of(options: Sequence[Option]) -> HardwareConfig:
    """What all of these can run with, whichever SageMaker takes: the smallest fit, shared out evenly by each."""
    layouts = [option.fit.layout for option in options]
    smallest, batch = min(layout.micro_batch for layout in layouts), options[0].fit.work.global_batch
    even = [set(micro_batches(batch, layout.gpus)) for layout in layouts]
    largest = max(layouts, key=lambda layout: layout.gpus)
    return HardwareConfig(
        sharding=largest.sharding,
        offload=largest.offload,
        micro_batch_size=max(size for size in set.intersection(*even) if size <= smallest),
        gradient_checkpointing=any(layout.checkpointing for layout in layouts),
    )


def _on_demand(chosen: Option, same: Sequence[Option]) -> list[Option]:
    """The on-demand rung's types, in order of preference: the chosen first, none much dearer, as many of each."""
    options = [option for option in same if option.market == "on_demand"]
    if chosen.market == "on_demand":
        options = [chosen, *(option for option in options if option != chosen)]
    best: dict[str, Option] = {}
    for option in options:
        if option.count == options[0].count and option.price <= options[0].price * DEAREST_ON_DEMAND:
            best.setdefault(option.spec.instance_type, option)
    return list(best.values())[:ON_DEMAND_TYPES]


def _waits(rungs: int, on_demand: Sequence[Option], limits: Limits) -> list[int]:
    """Seconds of patience of each spot rung: the last has what the others leave; one rung alone where time is short."""
    if limits.hours is None:
        return [PATIENCE_SECONDS] * rungs
    total = int(patience(_work(on_demand), limits.hours * 3600, _fallback(on_demand, limits)))
    rungs = rungs if total >= rungs * SHORTEST_PATIENCE else 1
    first = min(PATIENCE_SECONDS, total // rungs)
    return [*[first] * (rungs - 1), total - first * (rungs - 1)]


def _fallback(on_demand: Sequence[Option], limits: Limits) -> float:
    """Seconds that the slowest on-demand type may take beyond its calm run: its queue, and a slower run."""
    return max(limits.sure_hours(option) for option in on_demand) * 3600 - _work(on_demand)


def _work(on_demand: Sequence[Option]) -> float:
    """Seconds of the slowest type without interruptions."""
    return max(option.calm_hours for option in on_demand) * 3600


def _spot_rungs(options: Sequence[Option], waits: Sequence[int]) -> tuple[Rung, ...]:
    return tuple(
        Rung(
            market="spot",
            instance_types=(option.spec.instance_type,),
            instance_count=option.count,
            prices=(option.price,),
            on_demand_prices=(option.ceiling_price,),
            patience=wait,
            hardware=hardware_of([option]),
        )
        for option, wait in zip(options, waits, strict=True)
    )


def _on_demand_rung(options: Sequence[Option], hours: float | None) -> Rung:
    return Rung(
        market="on_demand",
        instance_types=tuple(option.spec.instance_type for option in options),
        instance_count=options[0].count,
        prices=tuple(option.price for option in options),
        on_demand_prices=tuple(option.price for option in options),
        patience=_last_patience(hours),
        hardware=hardware_of(options),
    )


def _last_patience(hours: float | None) -> int:
    return LAST_PATIENCE_SECONDS if hours is None else round(hours * 3600)
