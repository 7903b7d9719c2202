"""One tracker and the one thread that talks to it, so that nothing it does is felt by training."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from spotune.contracts.training import TrackerConfig
from training_container.trackers.connection import connect, secret_of
from training_container.trackers.tracker import Ending, Point, RunFacts, Tracker, TrackerUnusable

MAX_WAITING = 10_000
"""Points kept for a tracker that does not answer; then the oldest are dropped."""

PAUSES = (1.0, 5.0, 15.0, 60.0)
"""Seconds before each further try; the last one is repeated."""

NOTE_CHARACTERS = 300


class Sender:
    """Delivers points to one tracker, in order.

    A call that fails is made again after a pause, with the points that have gathered meanwhile. A call that hangs holds
    its own thread only: `settle` and `join` wait for it no longer than they are told to.
    """

    def __init__(self, config: TrackerConfig, *, pauses: Sequence[float] = PAUSES, room: int = MAX_WAITING) -> None:
        self._config = config
        self._pauses = pauses
        self._room = room
        self._change = threading.Condition()
        self._waiting: deque[Point] = deque()
        self._sending: list[Point] = []
        self._idle = True
        self._failures = 0
        self._dropped = 0
        self._ending: Ending | None = None
        self._notes: list[str] = []
        self._secret: str | None = None
        self._thread = threading.Thread(name=f"{config.type} tracker", daemon=True)

    def open(self, facts: RunFacts) -> None:
        """Begin to talk to the tracker."""
        self._idle = False
        self._thread = threading.Thread(target=self._run, args=(facts,), name=self._thread.name, daemon=True)
        self._thread.start()

    def put(self, point: Point) -> None:
        """Take a point; returns at once."""
        with self._change:
            self._waiting.append(point)
            self._trim()
            self._change.notify_all()

    def settle(self, seconds: float) -> None:
        """Wait until everything is delivered or a try has failed, no longer than this."""
        with self._change:
            self._change.wait_for(lambda: self._failures or (self._idle and not self._waiting), seconds)

    def finish(self, ending: Ending) -> None:
        """Ask for a last try and for the end of the run; `join` waits for it."""
        with self._change:
            self._ending = ending
            self._change.notify_all()

    def join(self, seconds: float) -> None:
        """Wait for the end, no longer than this."""
        if self._thread.ident is not None:
            self._thread.join(max(0.0, seconds))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the report should know of this tracker."""
        with self._change:
            late = len(self._waiting) + len(self._sending)
            counted = [
                *([f"{self._dropped} points were dropped"] if self._dropped else []),
                *([f"{late} points were not delivered when the report was written"] if late else []),
            ]
            return tuple(f"Tracker {self._config.type}: {note}." for note in (*self._notes, *counted))

    def _run(self, facts: RunFacts) -> None:
        try:
            self._deliver(facts)
        except TrackerUnusable as error:
            self._note(str(error))
        with self._change:
            self._idle, self._room = True, 0
            self._trim()
            self._change.notify_all()

    def _deliver(self, facts: RunFacts) -> None:
        """Until the run's end was asked for and tried once."""
        tracker: Tracker | None = None
        ending = None
        while ending is None:
            ending = self._await_work(opened=tracker is not None)
            try:
                tracker = tracker or self._connect(facts)
                if self._sending:
                    tracker.log(self._sending)
                self._delivered()
                if ending is not None:
                    tracker.finish(ending)
            except TrackerUnusable:
                raise
            except Exception as error:  # the edge to somebody else's library and server: training must not notice
                self._failed(error)

    def _await_work(self, *, opened: bool) -> Ending | None:
        """Take all that waits, as soon as there is something and the pause after a failure is over."""
        with self._change:
            if self._failures:
                pause = self._pauses[min(self._failures, len(self._pauses)) - 1]
                self._change.wait_for(lambda: self._ending, pause)
            elif opened:
                self._idle = True
                self._change.notify_all()
                self._change.wait_for(lambda: self._waiting or self._ending)
            self._idle = False
            self._sending = list(self._waiting)
            self._waiting.clear()
            return self._ending

    def _connect(self, facts: RunFacts) -> Tracker:
        try:
            self._secret = secret_of(self._config)
        except TrackerUnusable as error:
            if self._config.type != "wandb":
                raise
            self._note(f"{error}; the run is kept offline")
        return connect(self._config, self._secret, facts)

    def _delivered(self) -> None:
        with self._change:
            self._sending = []
            self._failures = 0

    def _failed(self, error: Exception) -> None:
        self._note(f"{type(error).__name__}: {error}")
        with self._change:
            self._waiting.extendleft(reversed(self._sending))
            self._sending = []
            self._failures += 1
            self._trim()
            self._change.notify_all()

    def _trim(self) -> None:
        while len(self._waiting) > self._room:
            self._waiting.popleft()
            self._dropped += 1

    def _note(self, text: str) -> None:
        """Keep each thing once; a server's own words may quote the key that it was sent."""
        hidden = text.replace(self._secret, "***") if self._secret else text
        said = " ".join(hidden.split())[:NOTE_CHARACTERS]
        with self._change:
            if said not in self._notes and len(self._notes) < 3:
                self._notes.append(said)
