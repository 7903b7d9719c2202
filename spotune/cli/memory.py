"""How much memory a command takes together with everything that it started."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

SAMPLE_SECONDS = 1.0


class MemoryMeter:
    """Samples, in a thread, the memory of this process, of further ones and of all their descendants.

    On Linux a page that several processes share counts once (PSS); elsewhere it counts for each (RSS).
    """

    def __init__(self, further: Callable[[], Iterable[int]]) -> None:
        self.peak_bytes = 0
        self._further = further
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memory-meter", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            self.peak_bytes = max(self.peak_bytes, memory_of({os.getpid(), *self._further()}))
            if self._done.wait(SAMPLE_SECONDS):
                return


def memory_of(roots: set[int]) -> int:
    """Bytes that these processes and their descendants hold now; one that has ended holds none."""
    parents, sizes = _processes()
    children = defaultdict(list)
    for pid, parent in parents.items():
        children[parent].append(pid)
    family: set[int] = set()
    left = list(roots)
    while left:
        pid = left.pop()
        if pid not in family:
            family.add(pid)
            left += children[pid]
    return sum(sizes(pid) for pid in family)


def _processes() -> tuple[dict[int, int], Callable[[int], int]]:
    """Every process's parent, and how to read a process's bytes."""
    if sys.platform != "linux":
        return _processes_by_ps()
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and (stat := _text(folder / "stat")):
            parents[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])
    return parents, _proportional_bytes


def _proportional_bytes(pid: int) -> int:
    for line in _text(Path(f"/proc/{pid}/smaps_rollup")).splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _processes_by_ps() -> tuple[dict[int, int], Callable[[int], int]]:
    shown = subprocess.run(["ps", "-axo", "pid=,ppid=,rss="], capture_output=True, text=True, check=True)
    rows = [tuple(map(int, line.split())) for line in shown.stdout.splitlines()]
    sizes = {pid: kilobytes * 1024 for pid, _, kilobytes in rows}
    return {pid: parent for pid, parent, _ in rows}, lambda pid: sizes.get(pid, 0)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
