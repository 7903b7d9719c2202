"""Nobody waits in a line while others pass by: a checker that knows the rule and not how the service keeps it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from spotune.contracts.job import JobRecord, held_places

PATIENCE = 3
"""In so many steps a job may be passed over: a pass of the reconciler that a fault hits calls whom it can."""


class Fairness:
    """Counts for each job in a line who got a place there before it, out of turn.

    Out of turn is a place for a job that came later: of the same tenant, or of one that held more of that line's places
    already than the one that waits.
    """

    def __init__(self) -> None:
        self._before: dict[str, JobRecord] = {}
        self._passed: Counter[tuple[str, str]] = Counter()

    def look(self, jobs: list[JobRecord]) -> Iterator[str]:
        """What is unfair in how things moved since the last look."""
        moved = [job for job in jobs if self._version(job.id) != job.version]
        if not moved:
            return
        held = Counter[tuple[str, str]]()
        for job in self._before.values():
            held.update({(line, job.tenant): places for line, places in held_places(job).items()})
        waiting = [job for job in jobs if job.line and self._before.get(job.id, job).line == job.line]
        by = {(one.id, one.line): job.id for job in moved for one in self._passed_by(job, waiting, held)}
        self._passed.update(by.keys())
        for job in moved:
            if (was := self._before.get(job.id)) is not None and was.line != job.line:
                self._passed.pop((job.id, was.line), None)
            self._before[job.id] = job
        for (job_id, line), other in by.items():
            if self._passed[job_id, line] > PATIENCE:
                yield f"{job_id}: {other} and others in {PATIENCE} steps before passed it by in {line}"

    def _version(self, job_id: str) -> int:
        return self._before[job_id].version if job_id in self._before else 0

    def _gained(self, job: JobRecord) -> Iterator[str]:
        had = held_places(self._before[job.id]) if job.id in self._before else {}
        return (line for line, places in held_places(job).items() if places > had.get(line, 0))

    def _passed_by(
        self, job: JobRecord, waiting: list[JobRecord], held: Counter[tuple[str, str]]
    ) -> Iterator[JobRecord]:
        since = _since(self._before.get(job.id, job))
        for line in self._gained(job):
            for one in (one for one in waiting if one.line == line and _since(one) < since):
                if one.tenant == job.tenant or held[line, job.tenant] > held[line, one.tenant]:
                    yield one


def _since(job: JobRecord) -> float:
    return job.in_line_since or job.created_at
