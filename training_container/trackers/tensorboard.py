"""TensorBoard: event files, written as they come, so that one may look at the synced folder during the run."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from training_container.trackers.tracker import Ending, Point, RunFacts


class TensorBoardRun:
    """Fulfils `Tracker`. A resumed run tells its readers to forget what was written at the steps that come again."""

    def __init__(self, facts: RunFacts) -> None:
        self._last_step = facts.step
        resumed = _wait_for_a_later_name(facts.folder)
        self._writer = SummaryWriter(str(facts.folder), purge_step=facts.step + 1 if resumed else None)
        if not resumed:
            self._describe(facts)

    def log(self, points: Sequence[Point]) -> None:
        """See `Tracker`."""
        for point in points:
            for name, value in point.values.items():
                self._writer.add_scalar(name, value, point.step, walltime=point.at)
            self._last_step = point.step
        self._writer.flush()

    def finish(self, ending: Ending) -> None:
        """See `Tracker`."""
        for name, value in ending.scores.items():
            self._writer.add_scalar(name, value, self._last_step)
        for path in ending.files:
            if path.suffix in (".json", ".md"):
                text = path.read_text()
                self._writer.add_text(path.name, _as_code(text) if path.suffix == ".json" else text, self._last_step)
        self._writer.close()

    def _describe(self, facts: RunFacts) -> None:
        """Parameters, for people and for the table of runs."""
        events = self._writer._get_file_writer()  # `add_hparams` would make a run of its own for them
        for summary in hparams(facts.parameters | facts.tags, {"eval_loss": 0.0, "tuned/eval_loss": 0.0}):
            events.add_summary(summary)
        self._writer.add_text("config", _as_code(json.dumps(facts.parameters | facts.tags, indent=1)))


def _wait_for_a_later_name(folder: Path) -> bool:
    """Readers take the files in the order of their names, which begin with the second in which they were made.

    Returns:
        True where an earlier process left files.
    """
    seconds = [int(path.name.split(".")[3]) for path in folder.glob("events.out.tfevents.*")]
    if seconds:
        time.sleep(min(max(0.0, max(seconds) + 1 - time.time()), 2.0))
    return bool(seconds)


def _as_code(text: str) -> str:
    return "".join(f"\t{line}\n" for line in text.splitlines())
