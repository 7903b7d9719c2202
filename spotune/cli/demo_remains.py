"""What a demo has started and not yet ended, on disk, so that the next one can end it if this one is killed."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import ValidationError

from spotune.contracts.base import Contract
from spotune.contracts.errors import Conflict
from spotune.local import processes
from spotune.local.state import ProcessMark, write_private


class Remains(Contract):
    """`process` is the demo's own; `supervisor` is set where it started the stack; `job_id` until its job has ended."""

    process: ProcessMark | None
    supervisor: ProcessMark | None = None
    job_id: str | None = None


class DemoRemains:
    """The one demo of a home, and what a killed one before it left."""

    def __init__(self, home: Path) -> None:
        self._path = home / "demo.json"
        self.before = self._read()
        self.now = Remains(process=processes.mark(os.getpid()))

    def claim(self) -> None:
        """Become this home's demo.

        Raises:
            Conflict: another one is running.
        """
        holder = self.before and self.before.process
        if holder and holder != self.now.process and processes.alive(holder):
            raise Conflict(
                f"A demo is running already (process {holder.pid}).",
                code="demo_running",
                remedy="Wait for it, or end it with Ctrl-C.",
            )
        # What the earlier one left stays on record until it is ended.
        self.keep(job_id=self.before and self.before.job_id, supervisor=self.before and self.before.supervisor)

    def keep(self, **changes: object) -> None:
        """Put on record what was started or has ended."""
        self.now = self.now.with_(**changes)
        write_private(self._path, self.now.model_dump_json())

    def release(self) -> None:
        """The demo is over; a job or a stack that could not be ended stays on record."""
        if self.now.job_id is None and self.now.supervisor is None:
            self._path.unlink(missing_ok=True)
        else:
            self.keep(process=None)

    def _read(self) -> Remains | None:
        try:
            return Remains.model_validate_json(self._path.read_bytes())
        except (OSError, ValidationError):
            return None
