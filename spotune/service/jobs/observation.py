"""Looks at a training job and tells its job what was seen. An event only wakes us: the description is the truth."""

from __future__ import annotations

import logging

from pydantic import ValidationError

from spotune.aws.base import ObjectMissing
from spotune.contracts import layout
from spotune.contracts.events import TrainingObserved
from spotune.contracts.job import JobRecord
from spotune.contracts.subject import know_job
from spotune.contracts.training import PROGRESS_NAME, REPORT_NAME, Progress, TrainingReport
from spotune.service.installation import Installation
from spotune.service.jobs.changes import apply

logger = logging.getLogger(__name__)

KEPT_CHARACTERS = 200
"""Of a golden prompt and of each answer to it."""


def observe(here: Installation, name: str, known: JobRecord | None = None) -> JobRecord | None:
    """Describe the training job of this name and apply what is seen; None where it is none of ours.

    Args:
        known: its job as it was just read.
    """
    job = known or here.store.find_job(name.rpartition("-")[0])
    if job is None:
        return None
    know_job(job, name)
    seen = here.place(job.region).training_jobs.describe(name)
    if seen is None:
        return job
    return apply(here, job.id, _with_results(here, job, seen), job)


def progress_of(here: Installation, job: JobRecord) -> Progress | None:
    """What the container last said of itself; None before it said anything."""
    if job.attempt is None or not here.runs_in(job.region):
        return None
    folder = layout.checkpoints_uri(here.job_folder(job))
    try:
        return Progress.model_validate_json(here.objects.read(folder + PROGRESS_NAME))
    except (ObjectMissing, ValidationError):
        return None


def _with_results(here: Installation, job: JobRecord, seen: TrainingObserved) -> TrainingObserved:
    if seen.status != "Completed":
        return seen
    output = layout.model_output_uri(here.job_folder(job), seen.name)
    try:
        report = TrainingReport.model_validate_json(here.objects.read(output + REPORT_NAME))
    except (ObjectMissing, ValidationError) as error:  # its values, which hold rows, stay out of the message
        logger.error("the report of %s cannot be read: %s", seen.name, error)
        return seen.with_(output_uri=output)
    return seen.with_(report=_kept(report), output_uri=output)


def _kept(report: TrainingReport) -> TrainingReport:
    """The report as a job's record has room for it; the whole one stays in S3."""
    cut = ("prompt", "expected", "base", "tuned", "champion")
    golden = (one.with_(**{name: _shortened(getattr(one, name)) for name in cut}) for one in report.golden)
    return report.with_(golden=tuple(golden))


def _shortened(text: str | None) -> str | None:
    return text if text is None or len(text) <= KEPT_CHARACTERS else text[: KEPT_CHARACTERS - 1] + "…"
