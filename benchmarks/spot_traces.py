"""Published spot availability, and what a policy costs on it.

Time goes in slots of five minutes. A trace says for each slot whether a spot instance can be had; one that runs is
interrupted at the end of the last slot of its window. Every start of an instance, and every change of market, is billed
for the restart without progress. An interruption loses nothing else, unless a save interval is given. The same holds
for every policy and for the optimum.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from spotune.planner.spot_policy import Moment, Place

TRACES = Path(__file__).parent / "data" / "spot_traces"
SLOT = 300
"""Seconds; it divides the restart and every job and deadline that is looked at."""

Policy = Callable[[Moment], Place]
"""Where to be in the next slot."""


@dataclass(frozen=True)
class World:
    """What holds for every policy. On-demand costs 1 a slot."""

    restart: int = 2
    """Slots without progress after each start."""
    spot_price: float = 0.35
    save_interval: int = 0
    """Slots of progress between saves; 0: an interruption loses no progress."""


@dataclass(frozen=True)
class Case:
    """One job, in slots."""

    work: int
    deadline: int
    world: World = World()

    @property
    def on_demand_cost(self) -> float:
        """What it costs without spot."""
        return self.work + self.world.restart


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    cost: float
    """On-demand slots; counted to completion where it is late."""
    slots: int


@dataclass
class _Run:
    """A job in simulation."""

    work: int
    place: Place = "nowhere"
    starting: int = 0
    unsaved: int = 0
    cost: float = 0.0


def read_traces() -> dict[str, list[bool]]:
    """Each trace by name, as slots: what was seen last when the slot begins. One instance of capacity is enough."""
    return {path.stem.removeprefix("availability_"): _slots(path) for path in sorted(TRACES.glob("*.json"))}


def _slots(path: Path) -> list[bool]:
    trace = json.loads(path.read_bytes())
    seen = [capacity >= 1 for capacity, count in trace["capacity_runs"] for _ in range(count)]
    gap = trace["gap_seconds"]
    return [seen[slot * SLOT // gap] for slot in range(len(seen) * gap // SLOT)]


def hazard(spot: Sequence[bool]) -> float:
    """Interruptions an available hour."""
    ends = sum(here and not there for here, there in pairwise(spot))
    return ends / (sum(spot) * SLOT / 3600)


def simulate(case: Case, spot: Sequence[bool], begin: int, policy: Policy) -> Outcome:
    """Run one job from slot `begin`. Where the trace ends, what is left is done on-demand."""
    run, slot = _Run(case.work), 0
    while run.work > 0:
        offered = begin + slot < len(spot) and spot[begin + slot]
        if run.place == "spot" and not offered:
            _interrupt(run)
        if begin + slot >= len(spot):
            policy = _on_demand
        moment = Moment(
            work=run.work * SLOT,
            time_left=(case.deadline - slot) * SLOT,
            place=run.place,
            starting=run.starting > 0,
            spot_offered=offered,
        )
        _move(run, policy(moment), case.world)
        _spend_slot(run, case.world)
        slot += 1
    return Outcome(cost=run.cost, slots=slot)


def _interrupt(run: _Run) -> None:
    run.work += run.unsaved
    run.place, run.starting, run.unsaved = "nowhere", 0, 0


def _move(run: _Run, place: Place, world: World) -> None:
    if place != run.place:
        run.place, run.unsaved = place, 0
        run.starting = 0 if place == "nowhere" else world.restart


def _spend_slot(run: _Run, world: World) -> None:
    if run.place == "nowhere":
        return
    run.cost += world.spot_price if run.place == "spot" else 1
    if run.starting:
        run.starting -= 1
        return
    run.work -= 1
    run.unsaved = (run.unsaved + 1) % world.save_interval if world.save_interval else 0


def _on_demand(_: Moment) -> Place:
    return "on_demand"
