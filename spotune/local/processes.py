"""Processes that this machine runs for the stack: started so that they end with their parent, ended by their mark."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import spotune
from spotune.local.state import ProcessMark

_ROOT = Path(spotune.__file__).parents[1]
"""Where `python -m` finds our packages, installed or not."""
_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 0.02
_LAST_SECONDS = 2.0
_STATE, _GROUP, _STARTED = 0, 2, 19


def start(
    command: Sequence[str], *, environment: Mapping[str, str], log: Path, with_parent: bool
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, its output appended to `log`.

    Args:
        command: what to run.
        environment: its whole environment.
        log: made where it is missing.
        with_parent: on Linux the kernel sends it SIGTERM when this process ends, in whatever way.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=_ROOT,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # Safe here: whoever starts with `with_parent` has one thread.
            preexec_fn=_end_with_parent if with_parent and sys.platform == "linux" else None,
        )


def mark(pid: int) -> ProcessMark | None:
    """The process's mark; None where there is no such process, or it has ended and only waits to be collected."""
    if sys.platform == "linux":
        return _mark_from_proc(pid)
    shown = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    status, _, started = shown.stdout.strip().partition(" ")
    return ProcessMark(pid=pid, started=started.strip()) if started and not status.startswith("Z") else None


def alive(process: ProcessMark) -> bool:
    """Whether this very process still runs."""
    return mark(process.pid) == process


def end(process: ProcessMark, *, grace_seconds: float) -> None:
    """SIGTERM, and SIGKILL after the grace to it and to what it leaves in its group.

    The process is one that `start` started. One that took over its id is left alone.
    """
    if not alive(process):
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGTERM)
        _wait_while(lambda: alive(process), grace_seconds)
        os.killpg(process.pid, signal.SIGKILL)
        _wait_while(lambda: _group_exists(process.pid), _LAST_SECONDS)


def resident_bytes(process: ProcessMark) -> int:
    """Memory that the process holds now; 0 where it has ended or the system does not say."""
    try:
        pages = Path(f"/proc/{process.pid}/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _wait_while(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while condition() and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _group_exists(leader: int) -> bool:
    """Whether the group has a member other than a leader that only waits to be collected."""
    if sys.platform != "linux":
        return mark(leader) is not None
    fields = (_stat(folder) for folder in Path("/proc").glob("[0-9]*"))
    return any(found and found[_GROUP] == str(leader) and found[_STATE] not in "ZX" for found in fields)


def _mark_from_proc(pid: int) -> ProcessMark | None:
    fields = _stat(Path(f"/proc/{pid}"))
    return ProcessMark(pid=pid, started=fields[_STARTED]) if fields and fields[_STATE] not in "ZX" else None


def _stat(folder: Path) -> list[str]:
    """proc_pid_stat(5) from its third field on; nothing where the process is gone."""
    try:
        return (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
