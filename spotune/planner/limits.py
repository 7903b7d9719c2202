"""What every option is held against: the request's constraints and the account's, as the search reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from spotune.contracts.base import MicroUSD, Seconds
from spotune.contracts.bounds import UNBOUNDED, Bounds
from spotune.contracts.errors import RequestRefused
from spotune.contracts.market import MarketSnapshot
from spotune.contracts.money import LONGEST_RUNTIME
from spotune.contracts.request import Constraints, Market
from spotune.planner.catalog import Catalog, InstanceSpec, load_catalog
from spotune.planner.options import MARKETS, Option


@dataclass(frozen=True, slots=True)
class Limits:
    """Money, time, and where the run may go."""

    cap: MicroUSD
    hours: float | None
    confidence: float
    """The probability with which the deadline is to be met."""
    markets: frozenset[Market] = frozenset(MARKETS)
    instance_types: frozenset[str] | None = None
    regions: frozenset[str] | None = None
    longest: Seconds = LONGEST_RUNTIME
    """That the installation lets one training job run."""

    def meets(self, option: Option) -> bool:
        """True where the option may be chosen."""
        return self.permits(option) and self.affords(option) and self.in_time(option)

    def permits(self, option: Option) -> bool:
        """True where the user allows it, the account's quota its number, and interruptions and installation its end."""
        return self.wants(option) and self.allows(option.spec) and option.within_quota and self.ends(option)

    def wants(self, option: Option) -> bool:
        """True where its market and its region are among the user's."""
        return option.market in self.markets and (self.regions is None or option.region in self.regions)

    def allows(self, spec: InstanceSpec) -> bool:
        """True where the type is among the user's, or the user named none."""
        return self.instance_types is None or spec.instance_type in self.instance_types

    def ends(self, option: Option) -> bool:
        """True where it comes to an end in the time that the installation lets it run."""
        return option.ends and option.needed_runtime <= self.longest

    def affords(self, option: Option) -> bool:
        """True where the cap covers the worst case of a time limit that is long enough."""
        return option.needed_cap <= self.cap

    def in_time(self, option: Option) -> bool:
        """True where the forecast meets the deadline with the confidence that was asked for."""
        return self.hours is None or self.sure_hours(option) <= self.hours

    def sure_hours(self, option: Option) -> float:
        """Hours within which it ends, its queue included, with the confidence that was asked for."""
        return option.course.hours_at(self.confidence)

    def without_choices(self) -> Limits:
        """The same money and time with every type, market and region open: what a choice is priced against."""
        return replace(self, markets=frozenset(MARKETS), instance_types=None, regions=None)


def read_limits(
    constraints: Constraints,
    cap: MicroUSD,
    catalog: Catalog,
    snapshots: Sequence[MarketSnapshot],
    bounds: Bounds = UNBOUNDED,
) -> Limits:
    """The constraints; the smaller of the cap and the request's budget holds.

    Args:
        catalog: of the types that the installation allows.

    Raises:
        RequestRefused: an instance type that the catalog does not have, or a region without prices.
    """
    types, regions = constraints.instance_types, constraints.regions
    for name in types or ():
        _check_type(name, catalog)
    for region in regions or ():
        _check_region(region, snapshots)
    return Limits(
        cap=min(cap, constraints.budget) if constraints.budget is not None else cap,
        hours=constraints.finish_within_hours,
        confidence=constraints.deadline_confidence,
        markets=frozenset(MARKETS) if constraints.market == "auto" else frozenset({constraints.market}),
        instance_types=None if types is None else frozenset(types),
        regions=None if regions is None else frozenset(regions),
        longest=bounds.longest,
    )


def _check_type(name: str, catalog: Catalog) -> None:
    if name in catalog.instances:
        return
    if name in load_catalog().instances:
        raise RequestRefused(
            f"This installation does not train on {name}.",
            code="instance_type_not_allowed",
            param="constraints.instance_types",
            remedy=f"Choose among {', '.join(catalog.instances)}; or have the installation deployed with it.",
        )
    from difflib import get_close_matches

    near = get_close_matches(name, catalog.instances, n=3, cutoff=0.5)
    raise RequestRefused(
        f"There is no instance type {name} in the catalog.",
        code="unknown_instance_type",
        param="constraints.instance_types",
        remedy=f"Did you mean {', '.join(near)}?" if near else "See them all with `spotune catalog`.",
    )


def _check_region(region: str, snapshots: Sequence[MarketSnapshot]) -> None:
    known = [snapshot.region for snapshot in snapshots]
    if region not in known:
        raise RequestRefused(
            f"This installation does not run in {region}.",
            code="unknown_region",
            param="constraints.regions",
            remedy=f"Choose among {', '.join(known)}, or leave it out.",
        )
