"""All trackers of a run, as the recipe sees them."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Self

from spotune.contracts.training import TrainingConfig, TrainingReport
from training_container.folders import Folders
from training_container.trackers.sending import Sender
from training_container.trackers.tracker import Ending, Point, RunFacts

FOLDER_NAME = "trackers"
"""Under `checkpoints/` while the run lasts, under `model/` when it is published."""

SETTLE_SECONDS = 10.0
"""Before the report is written, which counts what was lost."""

FINISH_SECONDS = 30.0
"""For the last points and the artefacts, when all weights are safe."""

STOP_SECONDS = 5.0
"""After a stop: the machine is about to be taken away."""

ARTEFACTS = ("report.json", "README.md", "*.svg", "*.png")


class Trackers:
    """Starts, feeds and ends the trackers that a config names; one process of a run does it.

    Nothing here raises on a tracker's account, and only `settle` and `finish` take time, which is bounded.
    """

    def __init__(self, config: TrainingConfig, folders: Folders, senders: Sequence[Sender]) -> None:
        self._config = config
        self._folders = folders
        self._senders = senders
        self._ended = False

    @classmethod
    def of(cls, config: TrainingConfig, folders: Folders, *, first: bool = True) -> Trackers:
        """Those of the config in the run's first process, none in the others."""
        return cls(config, folders, tuple(map(Sender, config.trackers)) if first else ())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        """End a process that published nothing: stopped where no exception came, and to be continued."""
        if not self._ended:
            self.end(Ending("failed" if kind else "stopped", {}, ()), STOP_SECONDS)

    def open(self, step: int) -> None:
        """Training goes on from this step: connect, each tracker in its own thread."""
        for sender, tracker in zip(self._senders, self._config.trackers, strict=False):
            folder = self._folders.checkpoints / FOLDER_NAME / tracker.type
            sender.open(RunFacts(config=self._config, step=step, folder=folder))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Pass a point on; returns at once."""
        for sender in self._senders:
            sender.put(Point(step=step, values=dict(values), at=time.time()))

    def settle(self) -> tuple[str, ...]:
        """Give the trackers a moment to take what waits; what the report has to warn of."""
        until = time.monotonic() + SETTLE_SECONDS
        for sender in self._senders:
            sender.settle(until - time.monotonic())
        return tuple(warning for sender in self._senders for warning in sender.warnings)

    def publish(self, report: TrainingReport) -> None:
        """Hand over the final scores and the artefacts of the model folder, and lay trackers' own files beside them."""
        found = [path for pattern in ARTEFACTS for path in sorted(self._folders.model.glob(pattern))]
        self.end(Ending("published", scores_of(report), tuple(found)), FINISH_SECONDS)
        kept = self._folders.checkpoints / FOLDER_NAME
        if kept.is_dir():
            try:
                shutil.copytree(kept, self._folders.model / FOLDER_NAME, dirs_exist_ok=True)
            except OSError as error:  # the model is published already
                print(f"Trackers' files stay with the checkpoints: {error}", file=sys.stderr, flush=True)

    def end(self, ending: Ending, seconds: float) -> None:
        """A last try for each tracker and the end of its run, all together no longer than this."""
        self._ended = True
        until = time.monotonic() + seconds
        for sender in self._senders:
            sender.finish(ending)
        for sender in self._senders:
            sender.join(until - time.monotonic())
            for warning in sender.warnings:
                print(warning, file=sys.stderr, flush=True)


def scores_of(report: TrainingReport) -> dict[str, float]:
    """Every number of the models' scores, as `base/eval_loss`, `tuned/eval_loss` and `champion/eval_loss`."""
    models = {"base": report.base, "tuned": report.tuned, "champion": report.champion}
    return {
        f"{which}/{name}": float(value)
        for which, scores in models.items()
        for name, value in (scores.model_dump() if scores is not None else {}).items()
        if isinstance(value, int | float)
    }
