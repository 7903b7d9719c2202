"""Waiting for real processes: look again and again, up to a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PATIENCE = 300
"""Seconds that any single step of a tiny job may take on a slow machine that has much else to do."""


def wait_for(look: Callable[[], T | None], what: str, patience: float = PATIENCE, pause: float = 0.1) -> T:
    """What `look` finds first, looking again every `pause` seconds.

    Raises:
        AssertionError: it found nothing in time.
    """
    never = threading.Event()
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        found = look()
        if found is not None:
            return found
        never.wait(pause)
    raise AssertionError(f"waited {patience} s in vain for {what}")
