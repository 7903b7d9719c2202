"""Stands between the double and a job's process, as a container does.

Run by path (`python -I -S guardian.py argv...`), so it imports the standard library only. It passes SIGTERM on to the
process, ends with its exit code (128 + n for signal n), and takes every descendant with it: when the process ends, and
when its own standard input closes, which happens when the double dies in whatever way. The functions below it are how
the double itself looks at process trees; they read /proc, or ask `ps` where there is none.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

_PAGE = os.sysconf("SC_PAGE_SIZE")
_PR_SET_CHILD_SUBREAPER = 36


class ProcessEntry(NamedTuple):
    """One line of the process table. `started` tells a process from a later one with the same id."""

    parent: int
    rss: int
    started: str


def main(argv: list[str]) -> int:
    """Run `argv` to its end and return its exit code."""
    _adopt_orphans()
    child: subprocess.Popen[bytes] | None = None
    asked: list[int] = []
    cut_off = threading.Event()

    def pass_on(number: int, _: object) -> None:
        asked.append(number)
        if child is not None:
            child.send_signal(number)

    signal.signal(signal.SIGTERM, pass_on)
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    if asked:
        child.terminate()
    threading.Thread(target=_end_with_the_double, args=(cut_off,), daemon=True).start()
    code = child.wait()
    end_descendants(os.getpid())
    if cut_off.is_set():
        # The thread may have reaped the child, whose code then reads as 0: what was killed must not count as done.
        return 128 + signal.SIGKILL
    return code if code >= 0 else 128 - code


def _adopt_orphans() -> None:
    """On Linux, a descendant whose parent ends becomes our child, and so cannot escape."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _end_with_the_double(cut_off: threading.Event) -> None:
    while os.read(0, 64):
        pass
    cut_off.set()
    end_descendants(os.getpid())
    os._exit(128 + signal.SIGKILL)


def processes() -> dict[int, ProcessEntry]:
    """All processes of the machine by id."""
    if not Path("/proc/self/stat").exists():
        return _processes_by_ps()
    table: dict[int, ProcessEntry] = {}
    for folder in os.listdir("/proc"):
        if folder.isdigit():
            with contextlib.suppress(OSError):  # it ended meanwhile
                after_name = Path("/proc", folder, "stat").read_text().rpartition(")")[2].split()
                table[int(folder)] = ProcessEntry(int(after_name[1]), int(after_name[21]) * _PAGE, after_name[19])
    return table


def _processes_by_ps() -> dict[int, ProcessEntry]:
    command = ["ps", "-A", "-o", "pid=,ppid=,rss=,lstart="]
    output = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"})
    rows = (line.split(None, 3) for line in output.stdout.splitlines())
    return {int(pid): ProcessEntry(int(parent), int(rss) * 1024, started) for pid, parent, rss, started in rows}


def descendants(pid: int, table: dict[int, ProcessEntry]) -> list[int]:
    """Ids of all processes below `pid`."""
    found: list[int] = []
    layer = {pid}
    while layer:
        layer = {child for child, entry in table.items() if entry.parent in layer}
        found.extend(layer)
    return found


def end_descendants(pid: int) -> None:
    """SIGKILL whatever runs below `pid`, also what has left its process group."""
    while victims := [victim for victim in descendants(pid, processes()) if _kill(victim)]:
        for victim in victims:
            _wait_for_end(victim)


def end_tree(pid: int) -> None:
    """SIGKILL `pid` and whatever runs below it."""
    below = descendants(pid, processes())
    for victim in (pid, *below):
        _kill(victim)


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _wait_for_end(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
