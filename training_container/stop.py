"""The request to stop: a flag that SIGTERM raises, and at once what may be cut short."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from training_container.faults import Stopped


class StopRequest:
    """Raised once, by SIGTERM or by `ask`; never lowered. Every further signal is heard and changes nothing."""

    def __init__(self) -> None:
        self.asked = False
        self._may_cut = False
        self._on_any: Callable[[bool], bool] | None = None

    def listen(self) -> None:
        """Take SIGTERM from now on, and one that the launcher held back until now.

        Python runs the handler in the main thread, between two operations.
        """
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def ask(self) -> None:
        """Ask the run to stop."""
        self.asked = True

    def share(self, on_any: Callable[[bool], bool]) -> None:
        """From now on several ranks stop together: at the look that follows, and never in the middle of a step.

        `on_any` tells whether the flag is raised on any of them.
        """
        self._on_any = on_any

    def part(self) -> None:
        """From now on this process stops by itself again: it does what the others do not wait for."""
        self._on_any = None

    def check(self) -> None:
        """Leave the current work. Where ranks stop together, all of them look as often as this one does.

        Raises:
            Stopped: the run was asked to stop.
        """
        if self.asked if self._on_any is None else self._on_any(self.asked):
            raise Stopped

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Around work that can be thrown away, however long it takes: a signal leaves it where it is.

        Not where ranks stop together: the others would wait for what this one has left.

        Raises:
            Stopped: the run was asked to stop.
        """
        outer, self._may_cut = self._may_cut, True
        try:
            if self.asked and self._on_any is None:
                raise Stopped
            yield
        finally:
            self._may_cut = outer

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        first, self.asked = not self.asked, True
        if first and self._may_cut and self._on_any is None:
            raise Stopped
