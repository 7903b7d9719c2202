"""Jobs on disk, one JSON file each, replaced atomically; names stay taken for ever, as at SageMaker."""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path
from typing import Protocol

from spotune.local.double.job import Job

log = logging.getLogger(__name__)


class JobStore(Protocol):
    """Where jobs outlive the double."""

    def load(self) -> list[Job]:
        """All jobs."""

    def save(self, job: Job) -> None:
        """Write the job as it is now."""

    def taken(self, name: str) -> bool:
        """Whether a job that could not be read back holds this name."""

    def alive_until(self) -> float:
        """When the double was last known to be alive; seconds since the epoch."""


class MemoryStore:
    """Keeps nothing: for the scripted runner."""

    def load(self) -> list[Job]:
        """None are left from before."""
        return []

    def save(self, job: Job) -> None:
        """Nothing to write."""

    def taken(self, name: str) -> bool:
        """No name is."""
        return False

    def alive_until(self) -> float:
        """Never before."""
        return 0.0


class JobFolder:
    """One file a job under `folder`. A file that cannot be read is set aside, and its name stays taken."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._heartbeat = folder.parent / "alive"
        folder.mkdir(parents=True, exist_ok=True)

    def load(self) -> list[Job]:
        """All jobs that can be read, oldest first."""
        jobs = [job for path in self._folder.glob("*.json") if (job := self._read(path)) is not None]
        return sorted(jobs, key=lambda job: job.created_at)

    def save(self, job: Job) -> None:
        """Replace the job's file.

        Raises:
            OSError: it cannot be written; the old file is still there.
        """
        replace_file(self._folder / f"{job.name}.json", json.dumps(job.to_json(), indent=1).encode())

    def taken(self, name: str) -> bool:
        """Whether a damaged file was set aside under this name."""
        return self._aside(self._folder / f"{name}.json").exists()

    def beat(self) -> None:
        """Note that the double is alive now."""
        self._heartbeat.touch()

    def alive_until(self) -> float:
        """The last heartbeat; now, where there was none."""
        return self._heartbeat.stat().st_mtime if self._heartbeat.exists() else time.time()

    def _read(self, path: Path) -> Job | None:
        try:
            return Job.from_json(json.loads(path.read_bytes()))
        except (ValueError, TypeError, KeyError) as error:
            log.warning("%s is damaged (%s) and set aside; its job is lost, its name stays taken", path, error)
            os.replace(path, self._aside(path))
            return None

    def _aside(self, path: Path) -> Path:
        return path.with_suffix(".damaged")


def replace_file(path: Path, body: bytes) -> None:
    """Write a file so that a reader finds the old body or the new one, whole, whatever happens in between."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(body)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
