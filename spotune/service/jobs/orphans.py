"""Training jobs that run and that no record waits for: a request that came through late, or a table from a backup."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from spotune.contracts.job import ActiveJob
from spotune.service.apart import apart, by_turns
from spotune.service.installation import Installation, Place
from spotune.service.jobs.observation import observe

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Orphans:
    """What was found running."""

    adopted: int = 0
    """Told to their jobs, which decide."""
    stopped: int = 0
    """Of this installation, and of no attempt that it has."""


def find_orphans(here: Installation, active: Iterable[ActiveJob], more_time: Callable[[], bool]) -> Orphans:
    """Look at every training job in progress that no open job is known to wait for, in each region, as far as time
    allows. Each pass begins with another region."""
    awaited = {name for job in active for name in job.live}
    found = [
        apart(f"training job {name}", partial(_settle, here, place, name), training_job=name)
        for place in by_turns("orphans", here.places, here.clock())
        if more_time()
        for name in apart(f"{place.region}'s training jobs", partial(_in_progress, place)) or ()
        if name not in awaited and more_time()
    ]
    return Orphans(adopted=found.count("adopted"), stopped=found.count("stopped"))


def _in_progress(place: Place) -> tuple[str, ...]:
    return tuple(place.training_jobs.in_progress())


def _settle(here: Installation, place: Place, name: str) -> Literal["adopted", "stopped", "another's"]:
    if _is_attempt(here, place, name):
        observe(here, name)
        return "adopted"
    if place.training_jobs.stage_of(name) != here.settings.stage:
        return "another's"
    logger.error("training job %s is no attempt of any job; it is being stopped", name)
    place.training_jobs.stop(name)
    return "stopped"


def _is_attempt(here: Installation, place: Place, name: str) -> bool:
    """False too where its job runs in another region: none of its attempts is here."""
    job = here.store.find_job(name.rpartition("-")[0])
    if job is None or (job.region or here.settings.region) != place.region:
        return False
    return any(attempt.name == name for attempt in job.attempts)
