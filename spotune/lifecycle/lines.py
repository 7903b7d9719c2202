"""Standing in line: for a place among the jobs that run at a time, or for SageMaker's quota of an instance type.

A job takes its places in the decision that orders its attempt, and gives them back in the one that settles it. Where a
line is full, or others stand in it, the store refuses that decision, and the job steps into the line instead. There it
reserves no money and uses up no attempt until `turns.py` lets it be called.
"""

from __future__ import annotations

from spotune.contracts.job import JobRecord, held_places
from spotune.contracts.lines import EVERYBODY, LineChange, quota_line, tenant_line
from spotune.lifecycle.rungs import plan_of


def places(job: JobRecord, rung: int) -> dict[str, int]:
    """What an attempt on this rung takes: a place in all, one of its tenant's, and instances of its type.

    A rung of several types counts against no quota: SageMaker chooses among them.
    """
    taken = {EVERYBODY: 1, tenant_line(job.tenant): 1}
    chosen = plan_of(job).rungs[rung]
    return taken | ({line_of(job, rung): chosen.instance_count} if len(chosen.instance_types) == 1 else {})


def line_of(job: JobRecord, rung: int) -> str:
    """The line for the quota of a rung's first type."""
    plan = plan_of(job)
    return quota_line(plan.chosen.region, plan.rungs[rung].instance_types[0], plan.rungs[rung].market)


def line_changes(before: JobRecord, after: JobRecord, *, in_turn: bool) -> tuple[LineChange, ...]:
    """What a decision moves in every line, from the two records alone: so that no path can forget it."""
    held, holds = held_places(before), held_places(after)
    names = dict.fromkeys((*held, *holds, *filter(None, (before.line, after.line))))
    changes = (
        LineChange(
            line=name,
            held=holds.get(name, 0) - held.get(name, 0),
            waiting=(after.line == name) - (before.line == name),
            in_turn=in_turn,
        )
        for name in names
    )
    return tuple(change for change in changes if change.held or change.waiting)
