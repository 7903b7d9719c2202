"""The quality of a job's files: looked at while they are checked, kept as one object in the job's folder.

Not in the job's record, which is read and written anew with every change of the job, pays by the kilobyte, and must
stay under DynamoDB's 400 KB: fifty listed rows of each kind of issue, for two files, come to more than half of that.
"""

from __future__ import annotations

import logging

from spotune.aws.base import AwsRefused, ObjectMissing
from spotune.contracts import layout
from spotune.contracts.errors import NotFound
from spotune.contracts.job import JobRecord
from spotune.contracts.quality import JobQuality
from spotune.service.installation import Installation
from spotune.service.jobs.control import job_of

logger = logging.getLogger(__name__)


def keep_quality(here: Installation, job: JobRecord, quality: JobQuality) -> None:
    """Write the report, before the job goes on: a report without a job harms nobody, and a job without one would stay
    so. That it cannot be written keeps no job from running."""
    try:
        here.objects.write(_uri(here, job), quality.model_dump_json().encode())
    except AwsRefused as refused:
        logger.warning("the quality report cannot be kept: %s", refused)


def quality_of(here: Installation, tenant: str, job_id: str) -> JobQuality:
    """The report of a tenant's job.

    Raises:
        NotFound: no such job, or it has no report.
    """
    job = job_of(here, tenant, job_id)
    try:
        return JobQuality.model_validate_json(here.objects.read(_uri(here, job)))
    except ObjectMissing:
        raise NotFound(
            f"Job {job_id} has no quality report.",
            code="quality_missing",
            param="fine_tuning_job_id",
            remedy="It is made once the job's files are checked and found without faults; spotune data check makes one "
            "of a file at any time.",
        ) from None


def _uri(here: Installation, job: JobRecord) -> str:
    return layout.quality_uri(layout.job_uri(here.settings.artifacts_bucket, job.tenant, job.id))
