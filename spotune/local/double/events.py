"""State-change events on their way to EventBridge, and what can go wrong on that way on request."""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from botocore.exceptions import BotoCoreError, ClientError

from spotune.local.double.clock import Clock

DETAIL_TYPE = "SageMaker Training Job State Change"
LONGEST_QUEUE = 10_000
Mode = Literal["normal", "duplicate", "drop", "late", "swap"]
MODES: tuple[Mode, ...] = get_args(Mode)
Send = Callable[[str, dict[str, Any]], None]

log = logging.getLogger(__name__)


class Disturber:
    """Passes events on as they come, or as badly as EventBridge may.

    `duplicate` sends each twice, `drop` not at all, `late` after `late_seconds` while later ones overtake it, `swap`
    holds one back until the next has gone.
    """

    def __init__(self, send: Send, clock: Clock) -> None:
        self._send = send
        self._clock = clock
        self._mode: Mode = "normal"
        self._left: int | None = None
        self._late_seconds = 0.0
        self._held: tuple[str, dict[str, Any]] | None = None

    def disturb(self, mode: Mode, *, count: int | None = None, late_seconds: float = 5.0) -> None:
        """Treat the next `count` events, or all from now on, in this mode."""
        self._mode, self._left, self._late_seconds = mode, count, late_seconds
        if mode != "swap":
            self._release()

    def publish(self, arn: str, detail: dict[str, Any]) -> None:
        """Take one event."""
        match self._next_mode():
            case "drop":
                return
            case "late":
                self._clock.call_at(self._clock.now() + self._late_seconds, lambda: self._send(arn, detail))
                return
            case "swap" if self._held is None:
                self._held = (arn, detail)
                return
            case "duplicate":
                self._send(arn, detail)
        self._send(arn, detail)
        self._release()

    def _next_mode(self) -> Mode:
        if self._left is not None:
            if self._left == 0:
                return "normal"
            self._left -= 1
        return self._mode

    def _release(self) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            self._send(*held)


class EventBridge:
    """Puts events to the emulator's bus, in order, from a thread of its own; tries again while the bus is away.

    What is undelivered when the double ends is lost, as an event may be; a reconciler must cope.
    """

    def __init__(self, events: Any, source: str) -> None:
        self._events = events
        self._source = source
        self._queue: deque[dict[str, Any]] = deque(maxlen=LONGEST_QUEUE)
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="double-events", daemon=True)
        self._thread.start()

    def send(self, arn: str, detail: dict[str, Any]) -> None:
        """Queue one event."""
        entry = {
            "Source": self._source,
            "DetailType": DETAIL_TYPE,
            "Detail": json.dumps(detail),
            "Resources": [arn],
            "Time": datetime.now(UTC),
        }
        with self._changed:
            self._queue.append(entry)
            self._changed.notify()

    def close(self, patience: float = 2.0) -> None:
        """Deliver what is queued, for as long as `patience`, and end."""
        with self._changed:
            self._closed.set()
            self._changed.notify()
        self._thread.join(patience)

    def _run(self) -> None:
        while (entry := self._next()) is not None:
            self._deliver(entry)

    def _next(self) -> dict[str, Any] | None:
        with self._changed:
            while not self._queue:
                if self._closed.is_set():
                    return None
                self._changed.wait()
            return self._queue.popleft()

    def _deliver(self, entry: dict[str, Any]) -> None:
        pause = 0.2
        while True:
            try:
                answer = self._events.put_events(Entries=[entry])
            except (BotoCoreError, ClientError) as error:
                reason = str(error)
            else:
                if not answer.get("FailedEntryCount"):
                    return
                reason = str(answer["Entries"][0].get("ErrorMessage"))
            log.warning("an event is not delivered yet: %s", reason)
            if self._closed.wait(pause):
                return
            pause = min(2 * pause, 5.0)
