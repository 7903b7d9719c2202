"""Holds what ledgers and lines count against the jobs that they count, and mends what differs.

Every count moves in the transaction of its job, so that nothing can differ but by a fault of ours, or by a table that
was restored or edited. A reservation that no job knows of any more would keep money back for good; a place that nobody
holds would keep a tenant from starting.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from spotune.contracts.base import Seconds
from spotune.contracts.job import ActiveJob
from spotune.contracts.lines import Tally
from spotune.contracts.money import month_of
from spotune.service.installation import Installation

QUIET: Seconds = 900
"""A count that moved within this time is left alone: the list of jobs may lag behind it."""

logger = logging.getLogger(__name__)


def correct_counts(here: Installation, active: Sequence[ActiveJob]) -> int:
    """Correct every quiet count that is not the sum of the open jobs; how many were."""
    return _correct_ledgers(here, active) + _correct_lines(here, active)


def _correct_ledgers(here: Installation, active: Sequence[ActiveJob]) -> int:
    """Of the months in which open jobs have something reserved, and of this one."""
    reserved = Counter[tuple[str, str, str]]()
    for job in active:
        for key in ("", *([job.key.id] if job.key is not None else [])):
            reserved.update({(job.tenant, month, key): amount for month, amount in job.reserved.items()})
    corrected = 0
    for month in {month_of(here.clock()), *(month for _, month, _ in reserved)}:
        for ledger, tally in here.store.ledgers(month):
            expected = reserved[ledger.tenant, month, ledger.key]
            if ledger.reserved != expected and _is_quiet(here, tally):
                logger.error("%s has %d reserved, its open jobs %d", ledger, ledger.reserved, expected)
                corrected += here.store.correct_ledger(ledger, tally, expected)
    return corrected


def _correct_lines(here: Installation, active: Sequence[ActiveJob]) -> int:
    held, waiting = Counter[str](), Counter(job.line for job in active)
    for job in active:
        held.update(job.held)
    corrected = 0
    for line, tally in here.store.lines():
        expected = held[line.line], waiting[line.line]
        if (line.held, line.waiting) != expected and _is_quiet(here, tally):
            logger.error("%s, but its open jobs hold and wait for %s", line, expected)
            corrected += here.store.correct_line(line, tally, held=expected[0], waiting=expected[1])
    return corrected


def _is_quiet(here: Installation, tally: Tally) -> bool:
    return here.clock() - tally.changed_at > QUIET
