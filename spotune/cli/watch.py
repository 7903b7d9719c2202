"""Following a job until it ends: a live bar on a terminal, plain lines elsewhere, JSON lines for programs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn

from spotune.cli import words
from spotune.cli.client import Api
from spotune.cli.screen import Screen
from spotune.contracts.api import EventObject, JobObject
from spotune.contracts.base import dollars
from spotune.contracts.errors import Unavailable

POLL_SECONDS = 1.5
PATIENCE_SECONDS = 60.0
"""How long the API may be away before watching gives up; the job goes on without us."""
TERMINAL = frozenset({"succeeded", "failed", "cancelled"})

_PLAIN_LINE_EVERY = 0.1
_WIDE = 100


class View(Protocol):
    """Shows one job while it changes."""

    def job(self, job: JobObject) -> None:
        """The job as it is now."""

    def event(self, event: EventObject) -> None:
        """A new line of its log."""


def follow(
    api: Api,
    job_id: str,
    view: View,
    *,
    on_poll: Callable[[JobObject], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> JobObject:
    """Show the job until it ends; returns it as it ended.

    Raises:
        NotFound: there is no such job.
        Unavailable: the API was away for longer than `PATIENCE_SECONDS`.
    """
    log = EventReader(api, job_id)
    answered = clock()
    while True:
        try:
            job = api.job(job_id)
            events = log.new()
            answered = clock()
        except Unavailable:
            if clock() - answered > PATIENCE_SECONDS:
                raise
        else:
            for event in events:
                view.event(event)
            view.job(job)
            if job.status in TERMINAL:
                return job
            if on_poll is not None:
                on_poll(job)
        sleep(POLL_SECONDS)


class EventReader:
    """A job's log, oldest first; each line once."""

    def __init__(self, api: Api, job_id: str) -> None:
        self._api = api
        self._job_id = job_id
        self._newest: str | None = None

    def new(self) -> list[EventObject]:
        """The lines since the last call."""
        fresh: list[EventObject] = []
        for event in self._api.events(self._job_id):
            if event.id == self._newest:
                break
            fresh.append(event)
        if fresh:
            self._newest = fresh[0].id
        return fresh[::-1]


@contextmanager
def view_for(screen: Screen) -> Iterator[View]:
    """The view that suits where the output goes; the terminal is left as it was."""
    if screen.machine:
        yield JsonView(screen)
    elif screen.live:
        wide = screen.console.width >= _WIDE
        with Progress(*columns(wide=wide), console=screen.console, expand=wide, refresh_per_second=4) as bar:
            yield LiveView(bar, wide=wide)
    else:
        yield PlainView(screen)


def columns(*, wide: bool) -> tuple[ProgressColumn, ...]:
    """Phase, bar, share and figures; a narrow terminal gets a short bar."""
    return (
        TextColumn("{task.fields[phase]}", markup=False),
        BarColumn(bar_width=None if wide else 12),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[facts]}", markup=False),
    )


class LiveView:
    """A bar at the bottom, the log above it."""

    def __init__(self, bar: Progress, *, wide: bool, clock: Callable[[], float] = time.time) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=None, phase="waiting", facts="")
        self._wide = wide
        self._clock = clock

    def job(self, job: JobObject) -> None:
        """Move the bar."""
        cost = dollars(words.cost_so_far(job, now=self._clock()))
        progress = job.spotune.progress
        if progress is None or not progress.total_steps:
            self._bar.update(self._task, phase=words.state_words(job), facts=cost)
            return
        facts = words.progress_words(progress).partition(", ")[2]
        phase = job.spotune.state if job.spotune.state != "running" else progress.phase.replace("_", " ")
        self._bar.update(
            self._task,
            total=progress.total_steps,
            completed=progress.step,
            phase=phase,
            facts=f"{facts}, {cost} so far" if self._wide else cost,
        )

    def event(self, event: EventObject) -> None:
        """Print the line above the bar."""
        self._bar.console.print(event_words(event), markup=False)


class PlainView:
    """A line for each log event, change of state and tenth of the way."""

    def __init__(self, screen: Screen, *, clock: Callable[[], float] = time.time) -> None:
        self._screen = screen
        self._clock = clock
        self._said: tuple[object, ...] = ()

    def job(self, job: JobObject) -> None:
        """Say what changed since the last line."""
        progress = job.spotune.progress
        tenth = (
            int(progress.step / progress.total_steps / _PLAIN_LINE_EVERY) if progress and progress.total_steps else 0
        )
        news = (job.spotune.state, job.spotune.waiting_for, progress.phase if progress else "", tenth)
        if news == self._said:
            return
        self._said = news
        said = words.state_words(job)
        if progress is not None and job.status not in TERMINAL:
            said += f": {words.progress_words(progress)}, {dollars(words.cost_so_far(job, now=self._clock()))} so far"
        self._screen.say(said)

    def event(self, event: EventObject) -> None:
        """Print the line."""
        self._screen.say(event_words(event))


class JsonView:
    """The job as one JSON line whenever it changed."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._said: JobObject | None = None

    def job(self, job: JobObject) -> None:
        """Print it if it changed."""
        if job != self._said:
            self._said = job
            self._screen.emit_line(job.model_dump(mode="json"))

    def event(self, event: EventObject) -> None:
        """Events are what `logs --json` prints."""


def event_words(event: EventObject) -> str:
    """One line of the log for people."""
    level = "" if event.level == "info" else f"{event.level}: "
    return f"{time.strftime('%H:%M:%S', time.localtime(event.created_at))}  {level}{event.message}"
