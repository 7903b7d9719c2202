"""What carries out a job's acts. Two do: `process_runner` for real, `scripted_runner` on a virtual clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from spotune.local.double.job import Job, Request
from spotune.local.double.machine import Signal

KILLED = 137
"""The exit code of a container that was killed."""
Report = Callable[[Signal], None]
"""Takes a signal of one launch of one job, from any thread, at any time after the act that it answers."""


class Runner(Protocol):
    """One method an act. None may block or report before it returns: the double holds its lock meanwhile.

    Of the job, only what does not change (name, request, types, launches) may be read later than that.
    """

    def missing_input(self, request: Request) -> str | None:
        """The URI of a channel that has no object, if there is one. Called without the lock."""

    def download(self, job: Job, report: Report) -> None:
        """Lay out the instances; answers Downloaded, InputRefused or Broken."""

    def run(self, job: Job, report: Report) -> None:
        """Start the processes; answers Started, then Exited."""

    def terminate(self, job: Job, report: Report) -> None:
        """Send SIGTERM; the run answers Exited."""

    def kill(self, job: Job, report: Report) -> None:
        """End download or processes at once; answers Exited, once a launch."""

    def upload(self, job: Job, report: Report) -> None:
        """Put what the job leaves into S3; answers Uploaded or Broken."""

    def discard(self, job: Job) -> None:
        """Forget what was on the instances."""

    def recover(self, job: Job) -> None:
        """End what an earlier double left running for this job."""

    def peak_rss(self, job: Job) -> int:
        """Bytes held at most by the job's processes together, over all launches."""

    def close(self) -> None:
        """End everything that runs, without a report."""
