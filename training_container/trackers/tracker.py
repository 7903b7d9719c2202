"""What every tracker is told, and what it has to offer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from spotune.contracts.training import TrainingConfig

Parameter = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Point:
    """What was logged at one step. `at` is in seconds since 1970."""

    step: int
    values: dict[str, float]
    at: float


@dataclass(frozen=True, slots=True)
class RunFacts:
    """The run as it stands when a tracker is opened.

    Attributes:
        config: everything that the container was told.
        step: training goes on from here; what was logged at later steps is about to be logged again.
        folder: of the tracker's own files; it is synced with S3 and there again after an interruption.
    """

    config: TrainingConfig
    step: int
    folder: Path

    @property
    def parameters(self) -> dict[str, Parameter]:
        """The config, flat: `optimization.learning_rate` and so on. Trackers are left out, and what is None."""
        return dict(_leaves(self.config.model_dump(mode="json", exclude={"version", "job_id", "trackers"}), ""))

    @property
    def tags(self) -> dict[str, str]:
        """What a run is found by. A job that retries another names it."""
        config = self.config
        found = {"spotune.job_id": config.job_id, "spotune.model": config.model.name, "spotune.method": config.method}
        return found | {"spotune.objective": config.objective.type} | self._retry

    @property
    def _retry(self) -> dict[str, str]:
        return {"spotune.retry_of": self.config.retry_of} if self.config.retry_of else {}


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ends. One that was stopped may be followed by another that continues the same run."""

    how: Literal["published", "stopped", "failed"]
    scores: dict[str, float]
    """Of base and tuned model, where there are any; by name, as `tuned/eval_loss`."""
    files: tuple[Path, ...]
    """The report, the model card and the plots. No weights: they lie in S3."""


class Tracker(Protocol):
    """An open run of one tracker. Every call may raise anything, or hang; the sender lives with both."""

    def log(self, points: Sequence[Point]) -> None:
        """Add points, the oldest first. The same ones come again where a call failed."""

    def finish(self, ending: Ending) -> None:
        """Close the run."""


class TrackerUnusable(Exception):
    """Trying again is of no use in this process; says why."""


def _leaves(value: object, name: str) -> Iterator[tuple[str, Parameter]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}".strip("."))
    elif isinstance(value, list):
        yield name, ", ".join(map(str, value))
    elif isinstance(value, str | int | float | bool):
        yield name, value
