"""Account quotas: instances of a type in use at once, spot and on-demand apart."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from spotune.local.double.faults import limit_exceeded
from spotune.local.double.job import Job

DEFAULT_QUOTA = 20
_NAMES = {"spot": "for spot training job usage", "on_demand": "for training job usage"}


class Quotas:
    """Limits by instance type and market. AWS starts accounts at 0; here every type starts at `default`."""

    def __init__(self, limits: dict[str, dict[str, int]] | None = None, default: int = DEFAULT_QUOTA) -> None:
        self._limits = {name: dict(markets) for name, markets in (limits or {}).items()}
        self._default = default

    @classmethod
    def from_file(cls, path: Path | None) -> Quotas:
        """Limits from a JSON file of `{instance type: {"spot": n, "on_demand": n}}`; none where there is no path.

        Raises:
            OSError, ValueError: it cannot be read.
        """
        return cls(json.loads(path.read_bytes()) if path is not None else None)

    def set(self, instance_type: str, market: str, limit: int) -> None:
        """Change one limit."""
        self._limits.setdefault(instance_type, {})[market] = limit

    def limit(self, instance_type: str, market: str) -> int:
        """Instances of this type that may be in use at once."""
        return self._limits.get(instance_type, {}).get(market, self._default)

    def check(self, job: Job, live: Iterable[Job]) -> None:
        """Refuse a job that would go over the limit of every type it may run on.

        Raises:
            ServiceError: ResourceLimitExceeded, about the type it prefers.
        """
        market = "spot" if job.spot else "on_demand"
        used = dict.fromkeys(job.instance_types, 0)
        for other in live:
            held = other.instance_type or other.instance_types[0]
            if other.spot == job.spot and held in used:
                used[held] += other.instance_count
        if any(used[name] + job.instance_count <= self.limit(name, market) for name in job.instance_types):
            return
        first = job.instance_types[0]
        raise limit_exceeded(
            f"The account-level service limit '{first} {_NAMES[market]}' is {self.limit(first, market)} Instances, "
            f"with current utilization of {used[first]} Instances and a request delta of {job.instance_count} "
            "Instances. Please use AWS Service Quotas to request an increase for this quota. If AWS Service Quotas is "
            "not available, contact AWS support to request an increase for this quota."
        )
