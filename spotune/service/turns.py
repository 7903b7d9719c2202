"""Calls those who stand in line, in their turn. The reconciler does so once a minute; nobody else calls."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from spotune.contracts.events import TurnCame
from spotune.contracts.job import ActiveJob
from spotune.contracts.lines import is_quota_line
from spotune.lifecycle.turns import calls, in_turn, lines_of
from spotune.service.apart import apart
from spotune.service.installation import Installation
from spotune.service.jobs.changes import apply
from spotune.service.jobs.limits import exceeds_its_quota


def call_in_turn(here: Installation, active: Sequence[ActiveJob]) -> int:
    """Let every line move on as far as there is room; how many jobs left theirs.

    Where a call finds its line full, those behind it are not called: nobody overtakes a job that needs more places. A
    job that cannot be called for a fault of its own, or that needs more than the whole quota has, is passed over.
    """
    return sum(_call(here, line, active) for line in lines_of(active))


def _call(here: Installation, line: str, active: Sequence[ActiveJob]) -> int:
    most, called = calls(line, active, here.clock()), 0
    for job in in_turn(line, active):
        if most is not None and called >= most:
            break
        whose = {"job": job.id, "tenant": job.tenant}
        if is_quota_line(line) and apart(f"job {job.id}", partial(_asks_too_much, here, job), **whose) is not False:
            continue
        left = apart(f"job {job.id}", partial(_leaves, here, job, line), **whose)
        if left is False:
            asked = is_quota_line(line) and apart(f"job {job.id}", partial(_leaves, here, job, line, ask=True), **whose)
            return called + bool(asked)
        called += bool(left)
    return called


def _asks_too_much(here: Installation, job: ActiveJob) -> bool:
    record = here.store.find_job(job.id)
    return record is not None and exceeds_its_quota(here, record)


def _leaves(here: Installation, job: ActiveJob, line: str, *, ask: bool = False) -> bool:
    """With `ask`, SageMaker is asked although its quota, as last fetched, is used up: it may have been raised since."""
    after = apply(here, job.id, TurnCame(), beyond_quota=ask)
    return after is None or after.line != line
