"""Time as the double sees it: the machine's own, or one that a test moves by hand."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

Callback = Callable[[], None]

log = logging.getLogger(__name__)


class Clock(Protocol):
    """Seconds since the epoch, and calls at a given second."""

    def now(self) -> float:
        """The present second."""

    def call_at(self, when: float, callback: Callback) -> None:
        """Call back once, at `when` or as soon after it as possible, never within this call."""


class VirtualClock:
    """Stands still until `advance`; callbacks run in the order of their seconds, in the caller's thread."""

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self._now = start
        self._order = itertools.count()
        self._heap: list[tuple[float, int, Callback]] = []

    def now(self) -> float:
        """The second that `advance` has reached."""
        return self._now

    def call_at(self, when: float, callback: Callback) -> None:
        """Call back when `advance` passes `when`."""
        heapq.heappush(self._heap, (when, next(self._order), callback))

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass, and everything that falls due within them happen."""
        target = self._now + seconds
        while self._heap and self._heap[0][0] <= target:
            when, _, callback = heapq.heappop(self._heap)
            self._now = max(self._now, when)
            callback()
        self._now = target


class SystemClock:
    """The machine's clock, with one thread that waits for the next callback."""

    def __init__(self) -> None:
        self._order = itertools.count()
        self._heap: list[tuple[float, int, Callback]] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="double-clock", daemon=True)
        self._thread.start()

    def now(self) -> float:
        """The machine's time."""
        return time.time()

    def call_at(self, when: float, callback: Callback) -> None:
        """Call back in the clock's own thread."""
        with self._changed:
            heapq.heappush(self._heap, (when, next(self._order), callback))
            self._changed.notify()

    def close(self) -> None:
        """Drop what has not fallen due, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while (callback := self._next_due()) is not None:
            try:
                callback()
            except Exception:  # the edge of this thread: one job's fault must not stop the time of all the others
                log.exception("a timer of the SageMaker double failed")

    def _next_due(self) -> Callback | None:
        with self._changed:
            while not self._closed:
                wait = self._heap[0][0] - self.now() if self._heap else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._heap)[2]
                self._changed.wait(wait)
        return None
