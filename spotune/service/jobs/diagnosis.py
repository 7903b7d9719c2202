"""Why a job is where it is, from its record and from what lies in S3."""

from __future__ import annotations

from spotune.contracts.diagnosis import Diagnosis
from spotune.lifecycle import diagnose
from spotune.service.installation import Installation
from spotune.service.jobs import checkpoints
from spotune.service.jobs.control import job_of
from spotune.service.jobs.observation import progress_of

LOG_LINES = 20
"""Of the job's log, newest first, that evidence is looked for in."""


def explain(here: Installation, tenant: str, job_id: str) -> Diagnosis:
    """The typed cause, its evidence and its remedy.

    Raises:
        NotFound: there is no such job, for this tenant.
    """
    job = job_of(here, tenant, job_id)
    whole, damaged = checkpoints.verified_checkpoints(here, job)
    progress = progress_of(here, job)
    return diagnose(
        job,
        whole[0].created_at if whole else None,
        here.clock(),
        damaged=damaged,
        peak_memory=progress.peak_memory_bytes if progress is not None else None,
        log=here.store.list_log(tenant, job_id, after=0, limit=LOG_LINES).items,
    )
