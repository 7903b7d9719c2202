"""Ends a process whose step hangs: a lost peer, a stuck driver, a deadlock. Billed time is worth more than hope."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from spotune.contracts.training import ExitCode
from training_container.faults import TrainingFault
from training_container.folders import Folders
from training_container.outcome import Outcome, tell

TICK_SECONDS = 1.0
FACTOR = 10
"""A step hangs where it takes this many times the longest of the last ones."""
REMEMBERED = 50
FLOOR = 600
"""Ticks that every step may take: another shape is compiled anew, and NCCL waits as long by itself."""
FIRST = 3600
"""Ticks that the first step of a process may take: kernels are compiled and ranks meet."""
GRACE = 120
"""Seconds after which the process ends without its reason where even this thread gets no turn."""
STDERR = 2


@dataclass(slots=True)
class Count:
    """Of one step."""

    ticks: int = 0


class Watchdog:
    """Counts ticks of its own while a step runs, and calls `hangs` with the stacks of all threads where they are too
    many. Nothing but a step is watched: loading, evaluation, saving and publication may take what they take.

    Ticks, not the clock: a process that was itself stopped for a while is not to blame.
    """

    def __init__(self, hangs: Callable[[str], None]) -> None:
        self._hangs = hangs
        self._taken: deque[int] = deque(maxlen=REMEMBERED)
        self._count: Count | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()

    @property
    def limit(self) -> int:
        """Ticks that the step under way may take."""
        return max(FLOOR, FACTOR * max(self._taken)) if self._taken else FIRST

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Around one step. A step that ended with an error says nothing about how long steps are."""
        # A library that hangs with the interpreter's lock leaves no turn to Python's threads; this one needs none.
        faulthandler.dump_traceback_later(self.limit * TICK_SECONDS + GRACE, exit=True, file=STDERR)
        self._count = count = Count()
        try:
            yield
            self._taken.append(count.ticks)
        finally:
            self._count = None
            faulthandler.cancel_dump_traceback_later()

    def tick(self) -> None:
        """One more second has passed."""
        count = self._count  # the step may end meanwhile, and take its count away
        if count is None:
            return
        count.ticks += 1
        if count.ticks == self.limit:
            self._hangs(stacks())

    def _run(self) -> None:
        while not self._closed.wait(TICK_SECONDS):
            self.tick()


def step_hangs(step: int, seconds: float, evidence: str) -> TrainingFault:
    """The fault of a step that does not end; another attempt goes on from the last checkpoint."""
    return TrainingFault(
        "step_hangs",
        f"Step {step} did not end within {seconds:.0f} s.",
        evidence=evidence,
        remedy="It is tried again from its last checkpoint. If it hangs again, look for the stacks in the job's log.",
        exit_code=ExitCode.INTERNAL,
    )


def end_process(fault: TrainingFault, folders: Folders) -> None:
    """Leave at once, from any thread: whatever hangs is not waited for."""
    print(fault.evidence, file=sys.stderr, flush=True)
    os._exit(tell(Outcome.of_error(fault), folders))


def stacks() -> str:
    """All threads' frames, one thread a line, the main thread last and its innermost frame at the end."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sorted(sys._current_frames().items(), key=lambda found: found[0] == threading.main_thread().ident)
    return "\n".join(
        f"{names.get(ident, ident)}: "
        + " > ".join(
            f"{os.path.basename(line.filename)}:{line.lineno} {line.name}" for line in traceback.extract_stack(frame)
        )
        for ident, frame in frames
    )
