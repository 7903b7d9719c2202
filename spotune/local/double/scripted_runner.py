"""Runs jobs by script on a virtual clock: the same states, times and reports, no process, no S3."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from spotune.local.double.clock import VirtualClock
from spotune.local.double.double import Double, Publish
from spotune.local.double.faults import ServiceError
from spotune.local.double.job import Job, Request
from spotune.local.double.machine import Broken, Downloaded, Exited, InputRefused, Signal, Uploaded
from spotune.local.double.quotas import Quotas
from spotune.local.double.runner import KILLED, Report
from spotune.local.double.settings import Timing
from spotune.local.double.storage import MemoryStore

STOPPED = 3
"""The container's exit code after SIGTERM, with a checkpoint saved."""


@dataclass(frozen=True)
class Script:
    """What one job does. Seconds; `interruptions` count from the first launch's Training, work done, not wall time."""

    duration: float = 600.0
    """Of training, where nothing interrupts it."""
    exit_code: int = 0
    failure: str = ""
    """What it leaves in `output/failure`."""
    interruptions: tuple[float, ...] = ()
    """Progress at which the instances are taken away."""
    breakdowns: tuple[float, ...] = ()
    """Progress at which SageMaker loses the instances by a fault of its own."""
    restart_after: float = 60.0
    """From an interruption to the next look for instances."""
    save_interval: float = 300.0
    """Work since the last checkpoint is done again after an interruption."""
    download: float = 60.0
    upload: float = 10.0
    stop: float = 5.0
    """From SIGTERM to the exit; infinity for a container that does not listen."""
    missing_input: str = ""
    """The URI of a channel that vanished between creation and download."""


@dataclass
class _Progress:
    script: Script
    saved: float = 0.0
    began_at: float = 0.0
    launch: int = 0
    exited: bool = True
    left: list[float] = field(default_factory=list)
    broken: list[float] = field(default_factory=list)


class ScriptedRunner:
    """One Script a job, chosen by its request."""

    def __init__(
        self, clock: VirtualClock, script_for: Callable[[Request], Script], interrupt: Callable[[str, float], None]
    ) -> None:
        self._clock = clock
        self._script_for = script_for
        self._interrupt = interrupt
        self._progress: dict[str, _Progress] = {}

    def missing_input(self, request: Request) -> str | None:
        """None: a script has no S3."""
        return None

    def download(self, job: Job, report: Report) -> None:
        """Answers after the script's `download`."""
        progress = self._progress.get(job.name)
        if progress is None:
            script = self._script_for(job.request)
            progress = self._progress[job.name] = _Progress(script)
            progress.left, progress.broken = sorted(script.interruptions), sorted(script.breakdowns)
        progress.launch, progress.exited = job.launches, False
        missing = progress.script.missing_input
        reason = f"ClientError: Data download failed: S3 key: {missing} matched no files on s3"
        self._after(progress.script.download, report, InputRefused(reason) if missing else Downloaded())

    def run(self, job: Job, report: Report) -> None:
        """Works from the last checkpoint on, to the next interruption or the end."""
        progress, script = self._progress[job.name], self._progress[job.name].script
        progress.began_at = self._clock.now()
        if progress.broken and progress.broken[0] < script.duration:
            at = max(progress.broken.pop(0), progress.saved)
            lost = partial(self._lose, progress, job.launches, at, report)
            self._clock.call_at(self._clock.now() + at - progress.saved, lost)
            return
        if job.spot and progress.left and progress.left[0] < script.duration:
            at = progress.left.pop(0)
            self._clock.call_at(self._clock.now() + max(0.0, at - progress.saved), partial(self._take_away, job))
            return
        outcome = Exited(script.exit_code, script.failure)
        self._clock.call_at(
            self._clock.now() + script.duration - progress.saved,
            partial(self._exit, progress, job.launches, report, outcome),
        )

    def terminate(self, job: Job, report: Report) -> None:
        """Exits with 3 after the script's `stop`."""
        progress = self._progress[job.name]
        self._clock.call_at(
            self._clock.now() + progress.script.stop,
            partial(self._exit, progress, job.launches, report, Exited(STOPPED)),
        )

    def kill(self, job: Job, report: Report) -> None:
        """Exits at once; what was saved stays."""
        progress = self._progress[job.name]
        if progress.began_at and job.secondary != "Downloading":
            done = progress.saved + self._clock.now() - progress.began_at
            progress.saved = _saved(progress.script, done)
        self._clock.call_at(self._clock.now(), partial(self._exit, progress, job.launches, report, Exited(KILLED)))

    def upload(self, job: Job, report: Report) -> None:
        """Answers after the script's `upload`, with the URI that SageMaker would name."""
        config = job.request["OutputDataConfig"]
        base = f"{config['S3OutputPath'].rstrip('/')}/{job.name}/output/"
        artifacts = base + ("model/" if config.get("CompressionType") == "NONE" else "model.tar.gz")
        self._after(self._progress[job.name].script.upload, report, Uploaded("" if job.failure_reason else artifacts))

    def discard(self, job: Job) -> None:
        """Keeps only what a further launch needs."""
        if not job.live:
            self._progress.pop(job.name, None)

    def recover(self, job: Job) -> None:
        """Nothing outlives a scripted runner."""

    def peak_rss(self, job: Job) -> int:
        """No process, no memory."""
        return 0

    def close(self) -> None:
        """Nothing runs."""

    def _after(self, seconds: float, report: Report, signal: Signal) -> None:
        self._clock.call_at(self._clock.now() + seconds, partial(report, signal))

    def _take_away(self, job: Job) -> None:
        progress = self._progress.get(job.name)
        if progress is not None and not progress.exited and progress.launch == job.launches:
            self._interrupt(job.name, progress.script.restart_after)

    def _lose(self, progress: _Progress, launch: int, done: float, report: Report) -> None:
        if progress.launch == launch and not progress.exited:
            progress.exited, progress.saved = True, _saved(progress.script, done)
            report(Broken())

    def _exit(self, progress: _Progress, launch: int, report: Report, outcome: Exited) -> None:
        if progress.launch == launch and not progress.exited:
            progress.exited = True
            report(outcome)


def _saved(script: Script, done: float) -> float:
    return done - done % script.save_interval


class ScriptedDouble(Double):
    """A Double on its own virtual clock: create jobs, `advance`, look. Thousands of jobs take seconds."""

    def __init__(
        self,
        script_for: Callable[[Request], Script] = lambda request: Script(),
        *,
        timing: Timing | None = None,
        quotas: Quotas | None = None,
        publish: Publish = lambda arn, detail: None,
    ) -> None:
        self.virtual_clock = VirtualClock()
        runner = ScriptedRunner(self.virtual_clock, script_for, self._interrupt_by_script)
        super().__init__(runner, self.virtual_clock, MemoryStore(), timing=timing, quotas=quotas, publish=publish)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.virtual_clock.advance(seconds)

    def _interrupt_by_script(self, name: str, restart_after: float) -> None:
        with suppress(ServiceError):  # the job is ending in another way already
            self.interrupt(name, restart_after_seconds=restart_after)
