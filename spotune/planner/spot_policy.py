"""When a job waits for spot, runs on it, or goes on-demand so that its deadline holds: the rule behind the ladder.

Slack is the time left less the work left. It never grows: waiting, starting and lost work use it up, running keeps it.
Three amounts of it decide. On-demand must be ordered while slack covers its fallback (its queue and its start). A spot
instance may be started where slack also covers the spot start and what an interruption takes back. And waiting stops
earlier, at a reserve that is a share of the work left: each later spot window costs slack too, and a job that has
waited all of it away cannot use them. Until only the reserve is left, the job waits; from then on it runs on-demand
between spot windows.

The rule needs no model of the spot market. docs/spot.md has what it saves on published traces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from spotune.contracts.deadlines import patience

Place = Literal["nowhere", "spot", "on_demand"]
"""Where a job is, or should be."""


@dataclass(frozen=True, slots=True)
class SpotRule:
    """What the rule has to know of a job, in seconds."""

    start: float
    """From a spot instance's first billed second to its first progress."""
    fallback: float
    """From ordering on-demand to its first progress: its queue and its start."""
    loss: float
    """Work that an interruption takes back at most: the save interval."""
    spot_share: float
    """Spot's price over on-demand's."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A job between two decisions, in seconds."""

    work: float
    """Left to do, as on-demand does it."""
    time_left: float
    """Until the deadline; infinite without one."""
    place: Place
    starting: bool
    """It occupies an instance that makes no progress yet."""
    spot_offered: bool
    """A spot instance can be had now, or the one it runs on is still there."""

    @property
    def slack(self) -> float:
        """Time that need not be worked."""
        return self.time_left - self.work


def decide(rule: SpotRule, now: Moment, pause: float) -> Place:
    """Where to be until the next decision, `pause` seconds from now.

    A spot instance is never left: leaving it costs a start, staying costs nothing until it is interrupted.
    """
    if now.place == "spot" and now.spot_offered:
        return "spot"
    if now.place == "on_demand":
        return "spot" if _pays_to_return(rule, now) and _may_start_spot(rule, now) else "on_demand"
    if _may_start_spot(rule, now):
        return "spot"
    return "nowhere" if patience(now.work, now.time_left, rule.fallback) >= pause else "on_demand"


def _may_start_spot(rule: SpotRule, now: Moment) -> bool:
    """True where on-demand could still take over after an interruption at any time."""
    return now.spot_offered and now.slack >= rule.start + rule.loss + rule.fallback


def _pays_to_return(rule: SpotRule, now: Moment) -> bool:
    """True where the work left is cheaper on spot, its start included, than on the on-demand instance it runs on."""
    return not now.starting and rule.spot_share * (rule.start + now.work) < now.work
