"""The request to stop: a flag that SIGTERM raises, and at once what may be cut short."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from training_container.faults import Stopped


class StopRequest:
    """Raised once, by SIGTERM or by `ask`; never lowered. Every further signal is heard and changes nothing."""

    def __init__(self) -> None:
        self.asked = False
        self._may_cut = False

    def listen(self) -> None:
        """Take SIGTERM from now on. Python runs the handler in the main thread, between two operations."""
        signal.signal(signal.SIGTERM, self._on_signal)

    def ask(self) -> None:
        """Ask the run to stop."""
        self.asked = True

    def check(self) -> None:
        """Leave the current work.

        Raises:
            Stopped: the run was asked to stop.
        """
        if self.asked:
            raise Stopped

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Around work that can be thrown away, however long it takes: a signal leaves it where it is.

        Raises:
            Stopped: the run was asked to stop.
        """
        outer, self._may_cut = self._may_cut, True
        try:
            if self.asked:
                raise Stopped
            yield
        finally:
            self._may_cut = outer

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        first, self.asked = not self.asked, True
        if first and self._may_cut:
            raise Stopped
