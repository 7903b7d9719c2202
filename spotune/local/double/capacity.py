"""How many instances of a type there are to be had: without limit, none on demand, or along a recorded trace."""

from __future__ import annotations

import bisect
import json
from itertools import accumulate
from math import inf
from pathlib import Path

from spotune.local.double.job import Job


class Trace:
    """Free instances over time, as steps: `runs` are (instances, intervals), an interval lasts `gap_seconds`.

    After its last run a trace starts anew.
    """

    def __init__(self, gap_seconds: float, runs: list[tuple[int, int]]) -> None:
        if not runs or gap_seconds <= 0 or any(count < 0 or length <= 0 for count, length in runs):
            raise ValueError("a trace needs a positive gap_seconds and runs of [instances >= 0, intervals > 0]")
        self._counts = [count for count, _ in runs]
        self._ends = [gap_seconds * end for end in accumulate(length for _, length in runs)]

    @classmethod
    def from_file(cls, path: Path) -> Trace:
        """Read `{"gap_seconds": s, "capacity_runs": [[instances, intervals], ...]}`.

        Raises:
            OSError, ValueError, KeyError: it is no such file.
        """
        document = json.loads(path.read_bytes())
        return cls(document["gap_seconds"], [(int(count), int(length)) for count, length in document["capacity_runs"]])

    def at(self, elapsed: float) -> int:
        """Free instances `elapsed` seconds after the start."""
        return self._counts[self._index(elapsed)]

    def next_below(self, elapsed: float, count: int) -> float:
        """Seconds after the start when fewer than `count` are next free; infinity if never."""
        index, start = self._index(elapsed), elapsed
        cycle = elapsed - elapsed % self._ends[-1]
        for _ in range(len(self._counts) + 1):
            if self._counts[index] < count:
                return start
            start = cycle + self._ends[index]
            index += 1
            if index == len(self._counts):
                index, cycle = 0, cycle + self._ends[-1]
        return inf

    def _index(self, elapsed: float) -> int:
        return bisect.bisect_right(self._ends, elapsed % self._ends[-1])


class Capacity:
    """Spot and on-demand instances by type."""

    def __init__(self) -> None:
        self._exhausted: set[str] = set()
        self._traces: dict[str, tuple[Trace, float]] = {}

    def set_available(self, instance_type: str, available: bool) -> None:
        """Whether new instances of this type can be had; running ones stay."""
        if available:
            self._exhausted.discard(instance_type)
        else:
            self._exhausted.add(instance_type)

    def follow(self, instance_type: str, trace: Trace | None, start: float) -> None:
        """Let spot capacity of this type follow a trace from `start` on; None ends it."""
        if trace is None:
            self._traces.pop(instance_type, None)
        else:
            self._traces[instance_type] = (trace, start)

    def find(self, job: Job, now: float) -> str | None:
        """The first of the job's types that can be had now."""
        for name in job.instance_types:
            if name not in self._exhausted and self.lost_at(job, name, now) > now:
                return name
        return None

    def lost_at(self, job: Job, instance_type: str, now: float) -> float:
        """When a spot job's instances of this type are next taken away by the trace; infinity if never."""
        if not job.spot or instance_type not in self._traces:
            return inf
        trace, start = self._traces[instance_type]
        return start + trace.next_below(now - start, job.instance_count)
