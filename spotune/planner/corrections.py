"""What finished runs teach: factors on speed, memory, starts and spot prices, and interruptions that were seen.

A factor is the mean of the runs' ratios (of their logarithms), drawn towards 1 as if a few more runs had been forecast
exactly. A method's on a card is drawn towards the card's own, which also holds for methods that never ran there: else a
slow card would only make the search change the method. A forecast already holds the factors of its time, so each ratio
is taken against the bare forecast.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from spotune.contracts.base import MicroUSD
from spotune.contracts.history import Corrections, Factor, FinishedRun, Quantity, SpotHistory, Stay
from spotune.planner.interruptions import prior_hazard
from spotune.planner.memory import CONTEXT_BYTES
from spotune.planner.span import Span
from spotune.planner.throughput import HIGH, LOW, Speed

DOUBT = 3.0
"""Runs that a factor needs to move half the way from 1 to what they say."""
LARGEST_RATIO = 3.0
"""One run counts for no more than this: beyond it something else was wrong."""
NARROWEST = 0.1
"""Of the speed interval's logarithmic half widths, however well runs agree."""

Ratio = tuple[Quantity, str, float]
"""What is corrected, its subject, and the logarithm of actual over bare forecast."""


def learn(runs: Sequence[FinishedRun]) -> Corrections:
    """Corrections from finished runs, in any order.

    Runs on another device than the planned card teach nothing: a laptop's CPU stands in for it in embedded mode. Runs
    that left no report teach how often spot was interrupted, and what it cost.
    """
    known = [run for run in runs if not run.elsewhere]
    ratios: dict[tuple[Quantity, str], list[float]] = defaultdict(list)
    for run in known:
        for quantity, subject, ratio in _ratios(run):
            ratios[quantity, subject].append(max(min(ratio, math.log(LARGEST_RATIO)), -math.log(LARGEST_RATIO)))
    factors: dict[tuple[Quantity, str], Factor] = {}
    for (quantity, subject), found in sorted(ratios.items()):
        card = factors.get((quantity, subject.partition(" ")[0]))
        factors[quantity, subject] = _factor(quantity, subject, found, math.log(card.factor) if card else 0.0)
    return Corrections(runs=len(known), factors=tuple(factors.values()), spot=tuple(_spot_history(known)))


class Corrector:
    """Corrections as the search applies them."""

    def __init__(self, corrections: Corrections) -> None:
        self._factors = {(one.quantity, one.subject): one for one in corrections.factors}
        self._spot = {(one.instance_type, one.region): one for one in corrections.spot}

    def speed(self, gpu: str, method: str, bare: Speed) -> Speed:
        """The speed that runs of this method on this card reached; its interval narrows as they agree."""
        found = self._found("speed", gpu, method)
        if found is None:
            return bare
        mid, weight = bare.training.mid * found.factor, found.runs / (found.runs + DOUBT)
        spread = weight * 1.645 * found.spread
        below, above = ((1 - weight) * width + spread for width in (-math.log(LOW), math.log(HIGH)))
        training = Span(mid / math.exp(max(below, NARROWEST)), mid, mid * math.exp(max(above, NARROWEST)))
        return Speed(training=training, forward=bare.forward * found.factor)

    def factor(self, quantity: Quantity, card_or_type: str = "", method_or_region: str = "") -> float:
        """Of a card and a method, of a type and a region, or of all starts; 1 where no run says anything."""
        found = self._found(quantity, card_or_type, method_or_region)
        return found.factor if found is not None else 1.0

    def _found(self, quantity: Quantity, first: str, second: str) -> Factor | None:
        return self._factors.get((quantity, f"{first} {second}")) or self._factors.get((quantity, first))

    def hazard(self, instance_type: str, region: str, rate: float) -> float:
        """Interruptions an instance-hour: the market's rate, moved by what was seen."""
        seen = self._spot.get((instance_type, region))
        return rate if seen is None else prior_hazard(rate).seen(seen.interruptions, seen.hours).rate

    def spot_price(self, instance_type: str, region: str, price: MicroUSD, on_demand: MicroUSD | None) -> MicroUSD:
        """Spot's price as it was billed, never above on-demand."""
        corrected = max(round(price * self.factor("spot_price", instance_type, region)), 1)
        return corrected if on_demand is None else min(corrected, on_demand)


UNCORRECTED = Corrector(Corrections())


def _ratios(run: FinishedRun) -> Iterator[Ratio]:
    forecast, actual, applied = run.forecast, run.actual, run.forecast.corrections
    for stay in run.stays:
        if stay.market == "spot" == forecast.market and stay.instance_type == forecast.instance_type:
            yield from _spot_price(run, stay)
    if not run.completed or any(stay.instance_type != forecast.instance_type for stay in run.stays):
        return
    subjects = (forecast.gpu, f"{forecast.gpu} {forecast.method}")
    if actual.tokens_per_second:
        bare = forecast.tokens_per_second.mid / applied.speed
        yield from (("speed", subject, math.log(actual.tokens_per_second / bare)) for subject in subjects)
    if actual.peak_memory_bytes:
        bare = (forecast.memory.mid - CONTEXT_BYTES) / applied.memory
        if bare > 0:
            yield from (("memory", subject, math.log(actual.peak_memory_bytes / bare)) for subject in subjects)
    if actual.start_seconds and forecast.start_seconds:
        yield "start", "", math.log(actual.start_seconds / (forecast.start_seconds / applied.start))


def _spot_price(run: FinishedRun, stay: Stay) -> Iterator[Ratio]:
    if stay.billable_seconds and stay.training_seconds:
        billed = stay.on_demand_price * stay.billable_seconds / stay.training_seconds
        bare = run.forecast.price / run.forecast.corrections.spot_price
        yield "spot_price", f"{stay.instance_type} {run.forecast.region}", math.log(billed / bare)


def _factor(quantity: Quantity, subject: str, ratios: Sequence[float], prior: float) -> Factor:
    """Drawn towards the prior, a logarithm. Memory is never corrected downwards: a batch may have been an easy one."""
    mean = (sum(ratios) + DOUBT * prior) / (len(ratios) + DOUBT)
    if quantity == "memory":
        mean = max(mean, 0.0)
    spread = math.sqrt(sum((ratio - mean) ** 2 for ratio in ratios) / len(ratios))
    return Factor(quantity=quantity, subject=subject, factor=math.exp(mean), spread=spread, runs=len(ratios))


def _spot_history(runs: Iterable[FinishedRun]) -> Iterator[SpotHistory]:
    """By type and region. A run's region is its plan's: a job stays in one."""
    seen: dict[tuple[str, str], list[Stay]] = defaultdict(list)
    for run in runs:
        for stay in run.stays:
            if stay.market == "spot":
                seen[stay.instance_type, run.forecast.region].append(stay)
    for (instance_type, region), stays in sorted(seen.items()):
        yield SpotHistory(
            instance_type=instance_type,
            region=region,
            interruptions=sum(stay.interruptions for stay in stays),
            hours=sum(stay.training_seconds * stay.instance_count for stay in stays) / 3600,
        )
