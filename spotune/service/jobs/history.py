"""Finished runs: what was forecast, what it took, and what later plans learn from it."""

from __future__ import annotations

from functools import lru_cache

from spotune.contracts.history import Corrections, FinishedRun
from spotune.planner.corrections import learn
from spotune.service.installation import Installation
from spotune.store.page import Page

LEARNT_FROM = 500
"""Newest runs that corrections are taken from: drivers, images and markets change."""
KEPT_SECONDS = 300
"""How long a process plans on corrections that it has computed."""


def list_runs(here: Installation, tenant: str, *, after: str | None, limit: int) -> Page[FinishedRun]:
    """A page of the tenant's finished runs, newest first.

    Raises:
        RequestRefused: the tenant has no run of the job `after`.
    """
    return here.store.list_runs(tenant, after=after, limit=limit)


def current_corrections(here: Installation) -> Corrections:
    """What the newest runs of all tenants teach: factors and counts, nothing of any one job."""
    return _kept(here, int(here.clock() // KEPT_SECONDS))


@lru_cache(maxsize=4)
def _kept(here: Installation, _period: int) -> Corrections:
    return learn(tuple(here.store.recent_runs(LEARNT_FROM)))
