"""What a plan says: the choice, what it was chosen from, and what to know about it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from spotune.contracts.base import Timestamp, dollars
from spotune.contracts.market import MarketSnapshot
from spotune.contracts.money import longest_runtime, worst_case
from spotune.contracts.plan import Applied, Candidate, FrontPoint, Plan
from spotune.contracts.request import Market
from spotune.planner.corrections import Corrector
from spotune.planner.ladder import build_ladder, state_fallback
from spotune.planner.limits import Limits
from spotune.planner.options import Option
from spotune.planner.pareto import pareto_front
from spotune.planner.rejections import reject_others
from spotune.planner.search import Search

ALTERNATIVES = 5
WEEK_SECONDS = 7 * 24 * 3600
DAY_SECONDS = 24 * 3600
CHOICE_COSTS_MORE = 1.05
"""From this multiple of the cheapest on, the price of the user's own choices is said."""
_MARKETS: dict[Market, str] = {"spot": "spot", "on_demand": "on-demand"}


def state_plan(found: Search, chosen: Option, snapshots: Sequence[MarketSnapshot], now: Timestamp) -> Plan:
    """The plan for a chosen option of this search, without warnings. The deadline counts from `now`."""
    limits, feasible = found.limits, found.feasible
    snapshot = next(one for one in snapshots if one.region == chosen.region)
    return Plan(
        chosen=_candidate(chosen, found),
        rungs=build_ladder(chosen, feasible, limits),
        on_demand_price=chosen.ceiling_price,
        on_demand_cost=math.ceil(chosen.ceiling_price * chosen.count * chosen.calm_hours),
        alternatives=tuple(_candidate(option, found) for option in _further_types(feasible, chosen)),
        front=tuple(_front_point(option, limits) for option in pareto_front(found.permitted)),
        rejections=tuple(reject_others(found, chosen)),
        confidence=limits.confidence,
        fallback=state_fallback(chosen, feasible, limits, now),
        market_as_of=snapshot.spot_as_of if chosen.market == "spot" else snapshot.as_of,
        longest=limits.longest,
    )


def max_runtime(option: Option, limits: Limits) -> int:
    """The longest that cap, deadline and installation allow, not the forecast: a slower machine may still finish."""
    by_money = longest_runtime(option.ceiling_price, option.count, limits.cap - option.carriage.cost)
    runtime = min(by_money, limits.longest)
    return runtime if limits.hours is None else min(runtime, int(limits.hours * 3600))


def warn(
    found: Search, plan: Plan, chosen: Option, snapshots: Sequence[MarketSnapshot], now: Timestamp
) -> Iterator[str]:
    """What to know before the plan is paid for."""
    snapshot = next(one for one in snapshots if one.region == chosen.region)
    yield from snapshot.warnings
    yield from _age_warnings(chosen, snapshot, now)
    if snapshot.quotes[chosen.spec.instance_type].certainty != "confirmed":
        yield f"The on-demand price of {chosen.spec.instance_type} is not confirmed ({chosen.spec.price_note})."
    if chosen.region != snapshots[0].region:
        yield (
            f"Runs in {chosen.region}: {chosen.carriage.inward / 1e9:.1f} GB are copied there first, and its results "
            f"stay there; {dollars(chosen.carriage.cost)} of the cost, with their way back."
        )
    if not chosen.spec.gpu.bf16:
        yield f"{chosen.spec.gpu.name} has no bf16: training runs in fp16 with loss scaling."
    if "on_demand" in found.limits.markets and plan.rungs[-1].market == "spot":
        yield "No on-demand rung: budget and deadline leave no room for one, so the job depends on spot capacity."


def price_of_choices(choices: Sequence[str], chosen: Option, cheapest: Option) -> Iterator[str]:
    """What the user's own choices cost, against the cheapest plan without them.

    Args:
        choices: in words.
        cheapest: within the same cap and deadline.
    """
    ratio = chosen.cost.mid / cheapest.cost.mid
    if ratio >= CHOICE_COSTS_MORE:
        where = f"{cheapest.spec.instance_type} on {_MARKETS[cheapest.market]}"
        yield (
            f"Your choice of {' and '.join(choices)} costs {ratio:.1f}x the cheapest: {where}, "
            f"{dollars(round(cheapest.cost.mid))}."
        )


def _candidate(option: Option, found: Search) -> Candidate:
    fit, layout, limits = option.fit, option.fit.layout, found.limits
    return Candidate(
        instance_type=option.spec.instance_type,
        instance_count=option.count,
        gpu=option.spec.gpu.name,
        gpus=option.machines.gpus,
        market=option.market,
        region=option.region,
        price=option.price,
        method=fit.work.method,
        precision=fit.work.precision,
        sharding=layout.sharding,
        offload=layout.offload,
        micro_batch_size=layout.micro_batch,
        gradient_accumulation=fit.work.global_batch // (layout.micro_batch * layout.gpus),
        gradient_checkpointing=layout.checkpointing,
        memory=fit.memory.stated(),
        tokens_per_second=option.speed.training.interval(),
        billed_hours=option.course.billed.interval(),
        wall_hours=option.course.wall.interval(),
        cost=option.cost.interval(),
        transfer=option.carriage.cost,
        transfer_bytes=option.carriage.inward,
        worst_case_cost=worst_case(option.ceiling_price, option.count, max_runtime(option, limits))
        + option.carriage.cost,
        interruptions=option.course.interruptions,
        work_lost_hours=option.course.work_lost,
        save_interval=option.save_interval,
        start_seconds=option.start_seconds,
        corrections=_applied(option, found.corrector),
        on_time_probability=None if limits.hours is None else option.course.on_time_probability(limits.hours),
    )


def _applied(option: Option, corrector: Corrector) -> Applied:
    card, method = option.spec.gpu.name, option.fit.work.method
    return Applied(
        speed=corrector.factor("speed", card, method),
        memory=corrector.factor("memory", card, method),
        start=corrector.factor("start"),
        spot_price=corrector.factor("spot_price", option.spec.instance_type, option.region)
        if option.market == "spot"
        else 1.0,
    )


def _further_types(feasible: Sequence[Option], chosen: Option) -> list[Option]:
    """The cheapest option of each other type."""
    best: dict[str, Option] = {}
    for option in feasible:
        best.setdefault(option.spec.instance_type, option)
    best.pop(chosen.spec.instance_type)
    return list(best.values())[:ALTERNATIVES]


def _front_point(option: Option, limits: Limits) -> FrontPoint:
    return FrontPoint(
        instance_type=option.spec.instance_type,
        instance_count=option.count,
        market=option.market,
        region=option.region,
        method=option.fit.work.method,
        cost=option.cost.interval(),
        wall_hours=option.course.wall.interval(),
        meets=limits.meets(option),
    )


def _age_warnings(chosen: Option, snapshot: MarketSnapshot, now: Timestamp) -> Iterator[str]:
    dates = [("On-demand prices", snapshot.as_of)]
    if chosen.market == "spot":
        dates.append(("Spot savings and interruption rates", snapshot.spot_as_of))
    for what, as_of in dates:
        if now - as_of > WEEK_SECONDS:
            yield f"{what} are {int((now - as_of) // DAY_SECONDS)} days old; they may have moved."
