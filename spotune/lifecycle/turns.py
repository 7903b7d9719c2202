"""Whose turn it is: first come first served within a tenant, fair between tenants."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush

from spotune.contracts.base import Seconds, Timestamp
from spotune.contracts.job import ActiveJob
from spotune.contracts.lines import is_quota_line

REFUSED_RESTS: Seconds = 300
"""How long a line rests after SageMaker refused the one who was called from it."""


def lines_of(active: Iterable[ActiveJob]) -> tuple[str, ...]:
    """Lines that jobs stand in. Quotas first: who stands in line for one goes before who is called from elsewhere."""
    return tuple(sorted({job.line for job in active if job.line}, key=lambda line: (not is_quota_line(line), line)))


def in_turn(line: str, active: Iterable[ActiveJob]) -> Iterator[ActiveJob]:
    """Those who stand in a line, in the order in which they are called.

    Among tenants the one goes first that holds the fewest of the line's places, each call counted as a place; within
    a tenant, and among tenants that hold as many, who waits longest.
    """
    held: dict[str, int] = defaultdict(int)
    waiting: dict[str, list[ActiveJob]] = defaultdict(list)
    for job in active:
        held[job.tenant] += job.held.get(line, 0)
        if job.line == line:
            waiting[job.tenant].append(job)
    for jobs in waiting.values():
        jobs.sort(key=_since, reverse=True)
    heads = [(held[tenant], _since(jobs[-1]), tenant) for tenant, jobs in waiting.items()]
    heapify(heads)
    while heads:
        places, _, tenant = heappop(heads)
        yield waiting[tenant].pop()
        if waiting[tenant]:
            heappush(heads, (places + 1, _since(waiting[tenant][-1]), tenant))


def calls(line: str, active: Iterable[ActiveJob], now: Timestamp) -> int | None:
    """How many may be called from a line now: None, as many as find room.

    Where SageMaker refused somebody, its quota is smaller than known, or used by others: one tries for all, not soon.
    """
    if not is_quota_line(line):
        return None
    refusals = [job.refused_at for job in active if job.line == line and job.refused_at is not None]
    if not refusals:
        return None
    return 0 if now - max(refusals) < REFUSED_RESTS else 1


def _since(job: ActiveJob) -> tuple[Timestamp, str]:
    return job.in_line_since or job.created_at, job.id
