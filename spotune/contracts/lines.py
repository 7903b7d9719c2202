"""Lines: what only so many training jobs may have at a time, and the jobs that stand in line for it.

A line is known by its name: places among all jobs, places among a tenant's, instances of one type in one market.
"""

from __future__ import annotations

from spotune.contracts.base import Contract, Timestamp
from spotune.contracts.request import Market

EVERYBODY = "jobs"
"""The line for a place among the jobs that run at a time in all."""

_TENANT = "jobs of "
_QUOTA = "quota of "


class LineChange(Contract):
    """What a decision moves in one line."""

    line: str
    held: int = 0
    """Places taken, or given back where it is negative. Taking needs room, and that nobody stands in line."""
    waiting: int = 0
    """1: the job steps into the line, -1: it leaves it."""
    in_turn: bool = False
    """The job was called from a line: those who stand in this one do not go before it."""


class LineState(Contract):
    """A line as it is: places held, and jobs that stand in it."""

    line: str
    held: int = 0
    waiting: int = 0


class Tally(Contract):
    """When a count of the store's was moved last, and how often it ever was: what a repair is guarded by."""

    changes: int
    changed_at: Timestamp


def tenant_line(tenant: str) -> str:
    """The line for a place among the tenant's jobs."""
    return _TENANT + tenant


def quota_line(region: str, instance_type: str, market: Market) -> str:
    """The line for instances of a type: SageMaker's quotas are by region, type and market."""
    return f"{_QUOTA}{instance_type} ({market}{' in ' + region if region else ''})"


def is_quota_line(line: str) -> bool:
    """True where what is waited for is SageMaker's to give."""
    return line.startswith(_QUOTA)


def waiting_words(line: str) -> str:
    """What a job in this line visibly waits for."""
    if is_quota_line(line):
        return line
    if line == EVERYBODY:
        return "a free place: as many jobs run as may at a time"
    return f"a free place: as many {line} run as may at a time"
