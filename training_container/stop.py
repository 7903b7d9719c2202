"""The request to stop: a flag that SIGTERM raises and that the long loops look at."""

from __future__ import annotations

import signal
from types import FrameType

from training_container.faults import Stopped


class StopRequest:
    """Raised once, by SIGTERM or by `ask`; never lowered."""

    def __init__(self) -> None:
        self.asked = False

    def listen(self) -> None:
        """Take SIGTERM from now on. Python runs the handler between two operations, so nothing is cut short."""
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

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.ask()
