"""Why a job is where it is, from its record and from what lies in S3."""

from __future__ import annotations

from spotune.contracts.diagnosis import Diagnosis
from spotune.lifecycle import diagnose
from spotune.service import registry
from spotune.service.installation import Installation


def explain(here: Installation, tenant: str, job_id: str) -> Diagnosis:
    """The typed cause, its evidence and its remedy.

    Raises:
        NotFound: there is no such job, for this tenant.
    """
    job, checkpoints = registry.checkpoints(here, tenant, job_id)
    newest = max((manifest.created_at for manifest in checkpoints), default=None)
    return diagnose(job, newest, here.clock())
