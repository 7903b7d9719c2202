"""The cheapest option within every constraint, and for each instance type that was not taken, why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from spotune.contracts.base import MicroUSD, dollars
from spotune.contracts.errors import RequestRefused
from spotune.contracts.plan import Rejection
from spotune.contracts.request import Constraints, Market
from spotune.planner.catalog import Catalog, Gpu, InstanceSpec, MarketSnapshot
from spotune.planner.options import Fit, Job, Option, best_fits, list_fits, list_options
from spotune.planner.throughput import Speed

GPUS_THE_TRAINER_USES = 1
"""The trainer runs one process on one GPU; the search takes whatever stands here."""

NEEDS_BF16 = frozenset({"gemma", "gemma2"})
"""Families whose activations exceed what fp16 holds."""

_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Limits:
    """What every option is held against."""

    cap: MicroUSD
    hours: float | None
    markets: frozenset[Market]
    instance_types: frozenset[str] | None

    def meets(self, option: Option) -> bool:
        """True where the option may be chosen."""
        return self.permits(option) and option.startable(self.cap) and option.on_time(self.hours)

    def permits(self, option: Option) -> bool:
        """True where the user allows its market and its type; money and time aside."""
        return option.market in self.markets and self.allows(option.spec)

    def allows(self, spec: InstanceSpec) -> bool:
        """True where the type is among the user's, or the user named none."""
        return self.instance_types is None or spec.instance_type in self.instance_types


@dataclass(frozen=True, slots=True)
class Search:
    """All options, cheapest first, and the verdict on each type that has none."""

    limits: Limits
    options: tuple[Option, ...]
    verdicts: dict[str, Rejection]
    misses: tuple[tuple[InstanceSpec, Fit], ...]
    """Types that memory rejected, with the configuration that needs the least."""

    @property
    def feasible(self) -> tuple[Option, ...]:
        """Options within every constraint, cheapest first."""
        return tuple(option for option in self.options if self.limits.meets(option))


def read_limits(constraints: Constraints, cap: MicroUSD, catalog: Catalog) -> Limits:
    """The constraints as the search reads them; the smaller of the cap and the request's budget holds.

    Raises:
        RequestRefused: an instance type that the catalog does not have.
    """
    types = constraints.instance_types
    if types is not None:
        _check_types(types, catalog)
    return Limits(
        cap=min(cap, constraints.budget) if constraints.budget is not None else cap,
        hours=constraints.finish_within_hours,
        markets=frozenset({"spot", "on_demand"} if constraints.market == "auto" else {constraints.market}),
        instance_types=None if types is None else frozenset(types),
    )


def search(job: Job, catalog: Catalog, snapshot: MarketSnapshot, limits: Limits) -> Search:
    """Every option of every type, whether the user allows it or not: a choice of the user's is priced against all."""
    options: list[Option] = []
    verdicts: dict[str, Rejection] = {}
    misses: list[tuple[InstanceSpec, Fit]] = []
    known: dict[str, tuple[list[Fit], list[tuple[Fit, Speed]]]] = {}
    for spec in catalog:
        if refused := _incapable(spec, job):
            verdicts[spec.instance_type] = refused
            continue
        fits, best = known.setdefault(spec.gpu.name, ([], []))
        if not fits:
            fits.extend(list_fits(job, spec.gpu))
            best.extend(best_fits(fits, spec.gpu))
        if not best:
            nearest = min(fits, key=lambda fit: fit.memory.p95)
            misses.append((spec, nearest))
            verdicts[spec.instance_type] = _too_small(spec, nearest)
            continue
        found = list(list_options(job, spec, snapshot, best))
        options.extend(found)
        if not any(option.market in limits.markets for option in found):
            verdicts[spec.instance_type] = _not_offered(spec, limits, snapshot.region)
    options.sort(key=lambda option: (option.cost.mid, option.spec.instance_type, option.market))
    return Search(limits=limits, options=tuple(options), verdicts=verdicts, misses=tuple(misses))


def reject_others(found: Search, chosen: Option, catalog: Catalog) -> Iterator[Rejection]:
    """One reason for every type but the chosen one."""
    best = _best_by_type(found)
    for spec in catalog:
        name = spec.instance_type
        if name == chosen.spec.instance_type:
            continue
        if not found.limits.allows(spec):
            yield Rejection(instance_type=name, rule="not_allowed", reason="not among constraints.instance_types")
        elif name in found.verdicts:
            yield found.verdicts[name]
        else:
            yield _outdone(best[name], found.limits, chosen)


def _best_by_type(found: Search) -> dict[str, Option]:
    """Each type's cheapest option, one within every constraint where it has one."""
    best: dict[str, Option] = {}
    permitted = [option for option in found.options if found.limits.permits(option)]
    for option in sorted(permitted, key=lambda option: not found.limits.meets(option)):
        best.setdefault(option.spec.instance_type, option)
    return best


def _outdone(option: Option, limits: Limits, chosen: Option) -> Rejection:
    name = option.spec.instance_type
    where = "on spot" if option.market == "spot" else "on-demand"
    if not option.startable(limits.cap):
        needed = f"needs {dollars(option.needed_cap)} {where} to be sure to finish; the cap is {dollars(limits.cap)}"
        return Rejection(instance_type=name, rule="budget", reason=needed)
    if not option.on_time(limits.hours):
        late = f"may take {option.course.wall.high:.1f} h {where}, queue included; the deadline is {limits.hours:g} h"
        return Rejection(instance_type=name, rule="deadline", reason=late)
    ratio = option.cost.mid / chosen.cost.mid
    cost = f"{dollars(round(option.cost.mid))} expected {where}, {ratio:.2f}x the chosen"
    return Rejection(instance_type=name, rule="cost", reason=cost)


def _incapable(spec: InstanceSpec, job: Job) -> Rejection | None:
    name = spec.instance_type
    if spec.gpus != GPUS_THE_TRAINER_USES:
        reason = f"has {spec.gpus} GPUs; the trainer uses one GPU at present"
        return Rejection(instance_type=name, rule="capability", reason=reason)
    family = job.workloads[0].architecture.family
    if family in NEEDS_BF16 and not spec.gpu.bf16:
        reason = f"{spec.gpu.name} has no bf16, which {family} needs"
        return Rejection(instance_type=name, rule="capability", reason=reason)
    return None


def _too_small(spec: InstanceSpec, nearest: Fit) -> Rejection:
    return Rejection(instance_type=spec.instance_type, rule="memory", reason=describe_miss(spec.gpu, nearest))


def describe_miss(gpu: Gpu, nearest: Fit) -> str:
    """How far the configuration that needs the least is from fitting, in words."""
    return (
        f"{nearest.work.method} needs up to {nearest.memory.p95 / _GIB:.1f} GiB at micro-batch {nearest.layout.micro_batch}; "
        f"{gpu.name} has {gpu.usable_memory / _GIB:.1f}"
    )


def _not_offered(spec: InstanceSpec, limits: Limits, region: str) -> Rejection:
    markets = " or ".join(_words(market) for market in sorted(limits.markets))
    reason = f"no {markets} price is known in {region}"
    return Rejection(instance_type=spec.instance_type, rule="market", reason=reason)


def _check_types(types: tuple[str, ...], catalog: Catalog) -> None:
    for name in types:
        if name not in catalog.instances:
            from difflib import get_close_matches

            near = get_close_matches(name, catalog.instances, n=3, cutoff=0.5)
            raise RequestRefused(
                f"There is no instance type {name} in the catalog.",
                code="unknown_instance_type",
                param="constraints.instance_types",
                remedy=f"Did you mean {', '.join(near)}?" if near else "See `spotune plan` without this constraint.",
            )


def _words(market: Market) -> str:
    return "spot" if market == "spot" else "on-demand"
