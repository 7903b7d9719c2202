"""What the ladder's rule is compared with: policies that know as little as it does, and one that knows the trace."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.spot_traces import SLOT, Case, Policy
from spotune.planner.spot_policy import Moment, Place, SpotRule, decide

Values = NDArray[np.float64]
"""Costs to go: a row a start, a column an amount of work left."""


def ladder(case: Case) -> Policy:
    """The product's rule."""
    world = case.world
    restart = world.restart * SLOT
    rule = SpotRule(start=restart, fallback=restart, loss=world.save_interval * SLOT, spot_share=world.spot_price)
    return lambda now: decide(rule, now, SLOT)


def on_demand(_: Case) -> Policy:
    """Always on-demand."""
    return lambda _: "on_demand"


def spot_until_it_works(_: Case) -> Policy:
    """Never on-demand, whatever the deadline."""
    return lambda now: "spot" if now.spot_offered else "nowhere"


def greedy(case: Case) -> Policy:
    """Spot until the last safe moment, then on-demand to the end. No model, no reserve."""
    restart = case.world.restart * SLOT

    def policy(now: Moment) -> Place:
        if now.place == "on_demand" or (now.place == "spot" and now.spot_offered):
            return now.place
        if now.spot_offered and now.slack >= 2 * restart:
            return "spot"
        return "nowhere" if now.slack - SLOT >= restart else "on_demand"

    return policy


def uniform_progress(case: Case) -> Policy:
    """Progress in proportion to time (Wu et al., Can't Be Late, NSDI 2024).

    Its rules: take spot whenever it is there and stay until interrupted; without it, go on-demand when behind the line
    and leave it when two restarts ahead; and on-demand to the end once slack is below two restarts.
    """
    restart, total, deadline = case.world.restart * SLOT, case.work * SLOT, case.deadline * SLOT

    def policy(now: Moment) -> Place:
        if now.place == "spot" and now.spot_offered:
            return "spot"
        if now.slack < 2 * restart:
            return "on_demand"
        if now.spot_offered:
            return "spot"
        ahead_at = deadline - now.time_left + (2 * restart if now.place == "on_demand" else 0)
        return "nowhere" if (total - now.work) * deadline >= ahead_at * total else "on_demand"

    return policy


def learnt_reserve(case: Case) -> Policy:
    """The ladder's rule with a reserve for the windows that are expected: what a model of the market would add.

    Twice two restarts for each spot window expected during the work left, by the rate at which windows have opened so
    far (a gamma posterior; the prior is 4 windows in 16 hours).
    """
    restart = case.world.restart * SLOT
    windows, seconds, offered_before = 4.0, 16 * 3600.0, False

    def policy(now: Moment) -> Place:
        nonlocal windows, seconds, offered_before
        windows += now.spot_offered and not offered_before
        seconds += SLOT
        offered_before = now.spot_offered
        if now.place == "spot" and now.spot_offered:
            return "spot"
        if now.spot_offered and now.slack >= 2 * restart and not (now.place == "on_demand" and now.starting):
            return "spot"
        reserve = restart + 4 * restart * now.work * windows / seconds
        return "nowhere" if now.place == "nowhere" and now.slack - SLOT >= reserve else "on_demand"

    return policy


POLICIES: dict[str, Callable[[Case], Policy]] = {
    "ladder": ladder,
    "on-demand": on_demand,
    "greedy": greedy,
    "Uniform Progress": uniform_progress,
    "spot only": spot_until_it_works,
    "learnt reserve": learnt_reserve,
}


def optimum(case: Case, spot: Sequence[bool], begins: Sequence[int]) -> list[float]:
    """The least that a job begun at each of these slots can cost in time, for one who knows the whole trace.

    Dynamic programming backwards over slots, exact: the state is the work left, the market, and the slots that its
    start still takes. Infinite where no policy is in time. Saves are continuous.
    """
    world, offered = case.world, np.asarray(spot)
    begins_at = np.asarray(begins)
    idle = np.full((len(begins_at), case.work + 1), np.inf)
    idle[:, 0] = 0
    on_spot = [idle] * (world.restart + 1)
    on_demand_ = [idle] * (world.restart + 1)
    for slot in reversed(range(case.deadline)):
        there = offered[begins_at + slot][:, None]
        spot_slot = [np.where(there, spent, np.inf) for spent in _spend(on_spot, world.spot_price)]
        demand_slot = _spend(on_demand_, 1)
        idle = np.minimum(np.minimum(idle, spot_slot[-1]), demand_slot[-1])
        idle[:, 0] = 0
        on_spot = [np.minimum(idle, value) for value in spot_slot]
        on_demand_ = [np.minimum(idle, value) for value in demand_slot]
    return [float(value) for value in idle[:, case.work]]


def _spend(after: Sequence[Values], price: float) -> list[Values]:
    """The cost of spending one slot with 0, 1, ... slots of start to go, from the costs to go after it."""
    progress = np.full_like(after[0], np.inf)
    progress[:, 1:] = after[0][:, :-1] + price
    return [progress, *(value + price for value in after[:-1])]
