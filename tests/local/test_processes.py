"""Processes are known by their start, and end with whoever started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from spotune.local import processes
from spotune.local.state import ProcessMark
from tests.polling import wait_for

WAITS = "import signal, sys; print('ready', flush=True); signal.pause()"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAITS}"
PARENT = """
import os, sys
from pathlib import Path
from spotune.local import processes
child = processes.start(
    [sys.executable, "-c", sys.argv[1]], environment=os.environ, log=Path(sys.argv[2]), with_parent=True
)
print(child.pid, flush=True)
child.wait()
"""


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    held: list[subprocess.Popen[bytes]] = []
    yield held
    for process in held:
        process.kill()
        process.wait()


def start(program: str, log: Path, held: list[subprocess.Popen[bytes]]) -> ProcessMark:
    process = processes.start([sys.executable, "-c", program], environment=os.environ, log=log, with_parent=False)
    held.append(process)
    wait_for(lambda: "ready" in log.read_text() or None, "the process to be ready")
    found = processes.mark(process.pid)
    assert found is not None
    return found


def test_end_asks_first(tmp_path: Path, started: list[subprocess.Popen[bytes]]) -> None:
    process = start(WAITS, tmp_path / "log", started)
    processes.end(process, grace_seconds=10)
    assert started[0].wait(10) == -signal.SIGTERM


def test_end_kills_what_does_not_listen(tmp_path: Path, started: list[subprocess.Popen[bytes]]) -> None:
    process = start(STUBBORN, tmp_path / "log", started)
    processes.end(process, grace_seconds=0.1)
    assert started[0].wait(10) == -signal.SIGKILL


def test_a_process_that_took_over_the_id_is_left_alone(tmp_path: Path, started: list[subprocess.Popen[bytes]]) -> None:
    process = start(WAITS, tmp_path / "log", started)
    processes.end(process.with_(started="another time"), grace_seconds=0.1)
    assert processes.alive(process)


def test_an_ended_process_is_not_alive_even_before_it_is_collected(
    tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    process = start(WAITS, tmp_path / "log", started)
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: not processes.alive(process) or None, "the kill to be seen")
    assert processes.mark(process.pid) is None


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel does it")
def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, WAITS, log], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = processes.mark(int(parent.stdout.readline()))
    assert child is not None
    wait_for(lambda: "ready" in log.read_text() or None, "the child to be ready")
    parent.kill()
    parent.communicate()
    wait_for(lambda: not processes.alive(child) or None, "the child to end")
