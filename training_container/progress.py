"""How far the run is, for people (progress.json), for SageMaker (stdout) and for the next attempt (history.json)."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping

from spotune.contracts.base import Contract
from spotune.contracts.checkpoint import HISTORY_NAME
from spotune.contracts.training import Progress, Resume
from training_container.folders import Folders, read_if_whole, replace_file
from training_container.metrics import MetricsLog
from training_container.worker import began_again

MIN_INTERVAL_SECONDS = 1.0
"""progress.json is written at most this often between changes of phase."""

CARRIED_OVER = ("step", "total_steps", "epoch", "loss", "eval_loss", "train_seconds")
"""Fields that stay true over an interruption, so that nothing jumps back to zero while the model loads."""

Clock = Callable[[], float]
"""Seconds that never go backwards."""

Listener = Callable[[int, Mapping[str, float]], None]
"""Hears each line that is logged: its step, and its values by name."""


class History(Contract):
    """`checkpoints/history.json`: what outlives a process, written once at the start of each."""

    training_job: str = ""
    """SageMaker's name of the training job that the elapsed seconds belong to."""
    elapsed_before: float = 0.0
    """Seconds that earlier processes of this training job took: its time limit is for all of them."""
    launches: int = 0
    """Of this training job: the limit counts what comes before the container in each, too."""
    resumes: tuple[Resume, ...] = ()
    lost_steps: int = 0
    lost_seconds: float = 0.0


class Reporter:
    """Keeps the progress file and remembers what the processes before this one left behind.

    `before` is the progress of the process before this one, None where this is the first. Of several processes that
    train together all but the first are quiet: they write nothing, and leave it to the first to count the launch, since
    what they read may be what it has written. They agree on the time that is left.
    """

    def __init__(
        self,
        folders: Folders,
        clock: Clock,
        started: float,
        listener: Listener = lambda step, values: None,
        *,
        quiet: bool = False,
        unseen_seconds: float = 0.0,
    ) -> None:
        self._folders = folders
        self._clock = clock
        self._started = started
        self._listener = listener
        self._quiet = quiet
        self._unseen_seconds = unseen_seconds
        self._written_at = float("-inf")
        self.loading_seconds = 0.0
        self._loading_since = started
        self.metrics = MetricsLog(folders.checkpoints)
        self.before = read_if_whole(Progress, folders.progress)
        self.history = self._open_history()
        self._progress = Progress(phase="loading")
        self.phase("loading", **self._carried_over())

    @property
    def elapsed(self) -> float:
        """Seconds of this training job, over all its processes."""
        return self.history.elapsed_before + self._clock() - self._started

    @property
    def unseen(self) -> float:
        """Seconds that the launches of this training job took before there was a process to see them, by the plan."""
        return self.history.launches * self._unseen_seconds

    @property
    def counted(self) -> float:
        """Seconds that count towards the time limit."""
        return self.elapsed + self.unseen

    def phase(self, name: str, **changes: object) -> None:
        """Enter a phase; the file is replaced at once. What is loaded in between counts as loading, too."""
        if self._progress.phase == "loading" != name:
            self.loading_seconds += self._clock() - self._loading_since
        elif self._progress.phase != "loading" == name:
            self._loading_since = self._clock()
        self._written_at = float("-inf")
        self.update(phase=name, **changes)

    def update(self, **changes: object) -> None:
        """Change fields of the progress; the file follows when it is due."""
        self._progress = self._progress.with_(**changes)
        now = self._clock()
        if not self._quiet and now - self._written_at >= MIN_INTERVAL_SECONDS:
            stamped = self._progress.with_(updated_at=time.time(), elapsed_seconds=round(self.elapsed, 3))
            replace_file(self._folders.progress, stamped.model_dump_json().encode())
            self._written_at = now

    def log(self, *, step: int, **values: float) -> None:
        """One JSON line on stdout, as METRIC_DEFINITIONS expects it."""
        if not self._quiet:
            print(json.dumps({"step": step, **values}), flush=True)
            self.metrics.append({"step": step, **values})
            self._listener(step, values)

    def resumed(self, step: int, train_seconds: float, skipped: tuple[str, ...]) -> None:
        """Note that this process goes on at `step`, and what the process before it had done beyond that.

        A retry's first process goes on from another job's checkpoint: there is none before it in this folder.
        """
        if not self._quiet:
            self.metrics.cut(step)
        if self.before is None and not step:
            return
        history, before = self.history, self.before or Progress(phase="loading")
        self.history = history.with_(
            resumes=(*history.resumes, Resume(step=step, at=time.time(), skipped=skipped)),
            lost_steps=history.lost_steps + max(0, before.step - step),
            lost_seconds=history.lost_seconds + max(0.0, before.train_seconds - train_seconds),
        )
        self._write_history()
        self.update(resumed_from_step=step, step=step)

    def _open_history(self) -> History:
        path = self._folders.checkpoints / HISTORY_NAME
        history = read_if_whole(History, path) or History()
        name = os.environ.get("TRAINING_JOB_NAME", "")
        if history.training_job != name:
            history = history.with_(training_job=name, elapsed_before=0.0, launches=0)
        elif self.before is not None:
            history = history.with_(elapsed_before=self.before.elapsed_seconds)
        self.history = history if self._quiet or began_again() else history.with_(launches=history.launches + 1)
        self._write_history()
        return self.history

    def _write_history(self) -> None:
        path = self._folders.checkpoints / HISTORY_NAME
        if not self._quiet:
            replace_file(path, self.history.model_dump_json(indent=1).encode())

    def _carried_over(self) -> dict[str, object]:
        if self.before is None:
            return {}
        return {name: getattr(self.before, name) for name in CARRIED_OVER}
