"""How long spot may be waited for under a deadline: the one formula that planning and the job's life share.

Slack is the time left less the work left; docs/spot.md has the rule and what it saves.
"""

from __future__ import annotations

RESERVE_SHARE = 0.2
"""Of the work left. Costs are flat between 0.1 and 0.3; chosen on every other published trace (`make bench-spot`)."""


def patience(work: float, time_left: float, fallback: float) -> float:
    """Seconds that a job without an instance may wait for spot before it orders on-demand.

    Args:
        work: seconds left to do, as on-demand does it.
        time_left: seconds until the deadline.
        fallback: seconds from ordering on-demand to its first progress.
    """
    return max(time_left - work * (1 + RESERVE_SHARE) - fallback, 0)


def last_safe_moment(work: float, deadline: float, fallback: float) -> float:
    """The latest time at which on-demand can be ordered for this much work and still meet the deadline."""
    return deadline - work - fallback
