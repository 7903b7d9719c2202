"""Superseded checkpoints go from S3 while their job lives: a start restores all that lies there onto each host's disk.

AWS documents that its sync deletes in S3 what the container deletes. Our training roles may delete nothing, so that
nothing here counts on it. A folder that goes has been removed on the disk before, and is not brought up again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress

from spotune.aws.base import ObjectMissing
from spotune.contracts import layout
from spotune.contracts.checkpoint import CHECKPOINT_PREFIX, STATE_NAME, StateFile, WholeCheckpoint, superseded
from spotune.contracts.job import JobRecord
from spotune.contracts.training import MANIFEST_NAME, Manifest
from spotune.service.installation import Installation
from spotune.service.jobs.checkpoints import read_contract

TAG = ("spotune-job", "superseded")
"""What the lifecycle rules look for that forget the deleted version: buckets keep others for longer."""

RESTORING = frozenset({"Downloading", "DownloadingTrainingImage", "Restarting"})
"""SageMaker's secondary statuses in which it may be fetching what it has just listed: nothing goes meanwhile."""

Files = dict[int, dict[str, int]]
"""Bytes of each checkpoint's files by their names, by its step."""

logger = logging.getLogger(__name__)


def prune_checkpoints(here: Installation, job: JobRecord) -> None:
    """Delete the job's superseded checkpoints. It may be cut off anywhere and begun again, by several at once.

    Where there is nothing to do it costs one listing.

    Raises:
        Unavailable: S3 does not answer.
    """
    if job.config is None:
        return
    folder, keep = layout.checkpoints_uri(here.job_folder(job)), job.config.checkpoint.keep
    found = _found(here, folder)
    if not _worth_reading(found, keep):
        return
    whole = {step: one for step in found if (one := _whole(here, folder, step, found[step])) is not None}
    for step in superseded(found, whole, keep):
        _delete(here, layout.checkpoint_uri(here.job_folder(job), step), found[step])
        logger.info("checkpoint-%d of %s is superseded: it is deleted from S3", step, job.id)


def _found(here: Installation, folder: str) -> Files:
    found: Files = {}
    start = folder + CHECKPOINT_PREFIX
    for one in here.objects.list(start):
        step, _, name = one.uri.removeprefix(start).partition("/")
        if step.isdecimal() and step == str(int(step)) and name:
            found.setdefault(int(step), {})[name] = one.bytes
    return found


def _worth_reading(found: Files, keep: int) -> bool:
    """False where there are no more than the newest and one behind them: the best, or one that stays until the next."""
    finished = {step for step, files in found.items() if MANIFEST_NAME in files}
    behind = {step for step in found if step < max(finished, default=0)}
    return len(behind) > keep or not behind <= finished


def _whole(here: Installation, folder: str, step: int, files: dict[str, int]) -> WholeCheckpoint | None:
    """None where it is not whole. The container alone reads all bytes."""
    folder = f"{folder}{CHECKPOINT_PREFIX}{step}/"
    manifest = read_contract(here, Manifest, folder + MANIFEST_NAME) if MANIFEST_NAME in files else None
    if manifest is None or manifest.step != step or manifest.lacks(files.get):
        return None
    written = read_contract(here, StateFile, folder + STATE_NAME)
    return None if written is None or written.state.step != step else WholeCheckpoint(manifest, written.state)


def _delete(here: Installation, folder: str, names: Iterable[str]) -> None:
    """The manifest first: without it, what is left does not exist for anybody."""
    for name in sorted(names, key=lambda name: (name != MANIFEST_NAME, name)):
        with suppress(ObjectMissing):  # somebody was quicker
            here.objects.mark(folder + name, *TAG)
        here.objects.delete(folder + name)
