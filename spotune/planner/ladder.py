"""The ladder: spot rungs one after another, each with its patience, then on-demand while the deadline still holds."""

from __future__ import annotations

from collections.abc import Sequence

from spotune.contracts.plan import Rung
from spotune.planner.options import Option

SPOT_RUNGS = 3
ON_DEMAND_TYPES = 5
"""What SageMaker's InstancePreferences takes."""
DEAREST_ON_DEMAND = 2.0
"""An on-demand type is listed up to this multiple of the cheapest one's price: the dearest sets what a cap allows."""
PATIENCE_SECONDS = 1800
SHORTEST_PATIENCE = 300
LAST_PATIENCE_SECONDS = 24 * 3600
"""Of the last rung, where no deadline ends it."""


def build_ladder(chosen: Option, feasible: Sequence[Option], hours: float | None) -> tuple[Rung, ...]:
    """Rungs for the chosen option.

    Args:
        chosen: the first rung's.
        feasible: options within every constraint, cheapest first. Those of another region, method, sharding or
            number of machines are left out: one config and one set of checkpoints serve all rungs.
        hours: the deadline, from now.
    """
    same = [option for option in feasible if _continues(option, chosen)]
    on_demand = _affordable_types([option for option in same if option.market == "on_demand"])
    if chosen.market == "on_demand":
        return (_on_demand_rung([chosen, *(option for option in on_demand if option != chosen)], hours),)
    spot = [option for option in same if option.market == "spot"]
    if not on_demand:
        return _spot_rungs(spot[:SPOT_RUNGS], PATIENCE_SECONDS, last=_last_patience(hours))
    cheaper = [option for option in spot if option.cost.mid <= on_demand[0].cost.mid][:SPOT_RUNGS] or [chosen]
    patience = _patience(len(cheaper), hours, on_demand)
    kept = cheaper if patience >= SHORTEST_PATIENCE else cheaper[:1]
    patience = _patience(len(kept), hours, on_demand)
    return (*_spot_rungs(kept, patience, last=patience), _on_demand_rung(on_demand, hours))


def _continues(option: Option, chosen: Option) -> bool:
    one, other = option.fit, chosen.fit
    return (
        (option.region, option.count) == (chosen.region, chosen.count)
        and (one.layout.gpus > 1) == (other.layout.gpus > 1)
        and one.work.method == other.work.method
        and (one.layout.sharding, one.layout.offload) == (other.layout.sharding, other.layout.offload)
    )


def _spot_rungs(options: Sequence[Option], patience: int, *, last: int) -> tuple[Rung, ...]:
    return tuple(
        Rung(
            market="spot",
            instance_types=(option.spec.instance_type,),
            instance_count=option.count,
            prices=(option.price,),
            on_demand_prices=(option.ceiling_price,),
            patience=last if option is options[-1] else patience,
        )
        for option in options
    )


def _on_demand_rung(options: Sequence[Option], hours: float | None) -> Rung:
    options = _affordable_types(options)
    return Rung(
        market="on_demand",
        instance_types=tuple(option.spec.instance_type for option in options),
        instance_count=options[0].count,
        prices=tuple(option.price for option in options),
        on_demand_prices=tuple(option.price for option in options),
        patience=_last_patience(hours),
    )


def _affordable_types(options: Sequence[Option]) -> list[Option]:
    if not options:
        return []
    return [option for option in options if option.price <= options[0].price * DEAREST_ON_DEMAND][:ON_DEMAND_TYPES]


def _patience(rungs: int, hours: float | None, on_demand: Sequence[Option]) -> int:
    """Seconds a spot rung may wait so that on-demand, its own queue included, still meets the deadline."""
    if hours is None:
        return PATIENCE_SECONDS
    slack = (hours - max(option.course.wall.high for option in on_demand)) * 3600
    return max(min(PATIENCE_SECONDS, int(slack / rungs)), 0)


def _last_patience(hours: float | None) -> int:
    return LAST_PATIENCE_SECONDS if hours is None else round(hours * 3600)
