"""One process of several: which one it is, and that it ends with the launcher that started it."""

from __future__ import annotations

import os
import sys
from threading import Thread

from training_container.outcome import OUTCOME_VARIABLE


def is_worker() -> bool:
    """True in a process that our launcher started, or torchrun."""
    return "RANK" in os.environ


def began_again() -> bool:
    """True where the launcher, or torchrun, starts processes on this machine for a second time, or a further one."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


def end_with_launcher() -> None:
    """End at once where the launcher does, however that ends: its end of the pipe that is our stdin is closed then."""
    if OUTCOME_VARIABLE in os.environ:
        Thread(target=_end_at_eof, daemon=True, name="launcher").start()


def _end_at_eof() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)
