"""The container's own process, and what SIGTERM means before it, with it and after it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from types import FrameType


class Stopped(BaseException):
    """The pod was asked to end, and nothing is lost by it. No `Exception`: it can come up anywhere in a library."""


class Trainer:
    """SIGTERM ends the pod while it fetches or waits, is passed on while the trainer runs, and lets an upload end."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = False
        self._at_once = False

    def listen(self) -> None:
        """Take SIGTERM from now on."""
        signal.signal(signal.SIGTERM, self._on_signal)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Around work that can be thrown away: SIGTERM leaves it where it is.

        Raises:
            Stopped: the pod was asked to end.
        """
        self._at_once = True
        try:
            if self._asked:
                raise Stopped
            yield
        finally:
            self._at_once = False

    def run(self, every: float, meanwhile: Callable[[], None]) -> int:
        """Start the trainer and wait for its end, doing something else every so many seconds; its exit code.

        The code of a trainer that a signal ended is a shell's: 128 and the signal's number.
        """
        # Held back until the process is known here. It inherits that, and takes the signal when it listens.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            self._process = subprocess.Popen(self._command)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        if self._asked:
            self._process.terminate()
        while True:
            try:
                code = self._process.wait(every)
            except subprocess.TimeoutExpired:
                meanwhile()
            else:
                self._process = None
                return code if code >= 0 else 128 - code

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True
        if self._process is not None:
            self._process.terminate()
        elif self._at_once:
            raise Stopped
