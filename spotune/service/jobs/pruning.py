"""Superseded checkpoints go from S3 while their job lives: a start restores all that lies there onto each host's disk.

AWS documents that its sync deletes in S3 what the container deletes. Our training roles may delete nothing, so that
nothing here counts on it. A folder that goes has been removed on the disk before, and is not brought up again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress

from spotune.aws.base import ObjectMissing
from spotune.contracts import layout
from spotune.contracts.checkpoint import (
    CHECKPOINT_PREFIX,
    STATE_NAME,
    StateFile,
    WholeCheckpoint,
    newest_whole,
    superseded,
)
from spotune.contracts.job import ENDED, JobRecord
from spotune.contracts.training import MANIFEST_NAME, Manifest
from spotune.service.installation import Installation
from spotune.service.jobs.checkpoints import read_contract

TAG = ("spotune-job", "superseded")
"""What the lifecycle rules look for that forget the deleted version: buckets keep others for longer."""

AT_A_TIME = 16
"""Checkpoints at either end that are read before any of them goes: a job may have left a thousand while none went."""

RESTORING = frozenset({"Downloading", "DownloadingTrainingImage", "Restarting"})
"""SageMaker's secondary statuses in which it may be fetching what it has just listed: nothing goes meanwhile."""

Files = dict[int, dict[str, int]]
"""Bytes of each checkpoint's files by their names, by its step."""

logger = logging.getLogger(__name__)


def prune_checkpoints(here: Installation, job: JobRecord, more_time: Callable[[], bool] = lambda: True) -> None:
    """Delete the job's superseded checkpoints. It may be cut off anywhere and begun again, by several at once.

    Where there is nothing to do it costs one listing. However many there are, a few are read before the first one goes.
    Nothing goes from where SageMaker, as it says just then, fetches them or has ended an attempt: whoever starts the
    next one prunes before.

    Args:
        more_time: asked before anything is read, and before each checkpoint that goes.

    Raises:
        Unavailable: S3 or SageMaker does not answer.
    """
    if job.config is None:
        return
    keep, checkpoints = job.config.checkpoint.keep, _Checkpoints(here, job, more_time)
    with suppress(_OutOfTime):
        while _worth_reading(checkpoints.found, keep) and (gone := _superseded(checkpoints, keep)):
            for step in gone:
                if not more_time() or not _may_delete(here, job):
                    return
                checkpoints.delete(step)


class _OutOfTime(Exception):
    """What is left is another pass's."""


class _Checkpoints:
    """A job's checkpoints in S3 as they were listed once. Each is read once, while there is time."""

    def __init__(self, here: Installation, job: JobRecord, more_time: Callable[[], bool]) -> None:
        self._here = here
        self._job = job
        self._more_time = more_time
        self._folder = layout.checkpoints_uri(here.job_folder(job))
        self._read: dict[int, WholeCheckpoint | None] = {}
        self.found = _found(here, self._folder)

    def whole(self, steps: Iterable[int]) -> dict[int, WholeCheckpoint]:
        """Those of these steps that are whole."""
        return {step: one for step in steps if step in self.found and (one := self._whole(step)) is not None}

    def delete(self, step: int) -> None:
        """Delete a checkpoint, or what there is of it."""
        _delete(self._here, f"{self._folder}{CHECKPOINT_PREFIX}{step}/", self.found.pop(step))
        logger.info("checkpoint-%d of %s is superseded: it is deleted from S3", step, self._job.id)

    def _whole(self, step: int) -> WholeCheckpoint | None:
        if step not in self._read:
            if not self._more_time():
                raise _OutOfTime
            self._read[step] = _whole(self._here, self._folder, step, self.found[step])
        return self._read[step]


def _superseded(checkpoints: _Checkpoints, keep: int) -> tuple[int, ...]:
    """Steps that nobody has a use for, of those at both ends where there are many.

    Whatever is the best of all, or among the newest, is so of a part as well. The newest are read first: what they
    name, and a resume goes on from, stays wherever it lies. Where they do not tell, nothing goes that is older.
    """
    steps = sorted(step for step, files in checkpoints.found.items() if MANIFEST_NAME in files)
    if len(steps) <= 2 * AT_A_TIME:
        return superseded(checkpoints.found, checkpoints.whole(steps), keep)
    newest, oldest = steps[-AT_A_TIME:], steps[:AT_A_TIME]
    read = checkpoints.whole(newest)
    tells = len(read) >= keep
    read |= checkpoints.whole({one.state.best_step for one in read.values() if one.state.best_step is not None})
    newest_first = (read[step].state for step in reversed(newest) if step in read)
    resumed = newest_whole(newest_first, read.__contains__)
    tells = tells and resumed is not None and (resumed.best_step is None or resumed.best_step in read)
    if tells:
        read |= checkpoints.whole(oldest)
    judged = [step for step in checkpoints.found if step >= newest[0] or (tells and step <= oldest[-1])]
    return superseded(judged, read, keep)


def _may_delete(here: Installation, job: JobRecord) -> bool:
    """As SageMaker says now: the record may have an earlier status, and a folder takes a while."""
    service = here.place(job.region).training_jobs
    for attempt in job.attempts:
        seen = service.describe(attempt.name) if attempt.live or attempt is job.attempt else None
        if seen is not None and (seen.status in ENDED or seen.secondary_status in RESTORING):
            return False
    return True


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
