"""The double's regions: SageMaker and its neighbours answer in each, and what one region holds no other one sees.

A request's region is the one that it is signed for. Regions are made when first asked for; those that hold jobs are
taken up again by the next double.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from spotune.local.double.double import Double
from spotune.local.double.faults import invalid
from spotune.local.double.market import Market
from spotune.local.double.model_packages import ModelPackages

_SCOPE = re.compile(r"Credential=[^/]+/\d{8}/([a-z]{2}(?:-[a-z]+)+-\d)/")
_NAME = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
_STATE = "state"


@dataclass(frozen=True)
class Region:
    """One region's training jobs, market and model registry."""

    name: str
    double: Double
    market: Market
    models: ModelPackages = field(default_factory=ModelPackages)


class Regions:
    """All regions that have been asked for, the home first.

    Args:
        home: the region of requests that are signed for none.
        make: makes a region's part of the double.
        folder: where regions keep their jobs.
    """

    def __init__(self, home: str, make: Callable[[str], Region], folder: Path) -> None:
        self._home = home
        self._make = make
        self._lock = threading.Lock()
        self._regions: dict[str, Region] = {}
        for name in (home, *_left_behind(folder)):
            self.named(name)

    def __iter__(self) -> Iterator[Region]:
        with self._lock:
            return iter(tuple(self._regions.values()))

    @property
    def home(self) -> Region:
        """The region of the double's own settings."""
        return self.named(self._home)

    def of(self, authorization: str) -> Region:
        """The region that a request is signed for, by its Authorization header."""
        scope = _SCOPE.search(authorization)
        return self.named(scope.group(1)) if scope else self.home

    def named(self, name: str) -> Region:
        """A region by its name.

        Raises:
            ServiceError: ValidationException, where it is no region's name.
        """
        if not _NAME.fullmatch(name):
            raise invalid(f"{name!r} is no region.")
        with self._lock:
            if name not in self._regions:
                self._regions[name] = self._make(name)
            return self._regions[name]

    def with_job(self, training_job: str) -> Region:
        """The region that holds this training job; the home where none does."""
        holders = (one for one in self if any(job.name == training_job for job in one.double.jobs()))
        return next(holders, self.home)


def state_folder(folder: Path, home: str, region: str) -> Path:
    """Where a region's jobs are kept."""
    return folder / (_STATE if region == home else f"{_STATE}-{region}")


def models_folder(folder: Path, home: str, region: str) -> Path:
    """Where a region's model packages are kept."""
    return state_folder(folder, home, region) / "models"


def _left_behind(folder: Path) -> list[str]:
    return sorted(path.name.removeprefix(f"{_STATE}-") for path in folder.glob(f"{_STATE}-*") if path.is_dir())
