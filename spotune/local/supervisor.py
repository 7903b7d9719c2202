"""The one background process of embedded mode: it owns the emulator and the double, and they end with it.

It holds a lock on `supervisor.lock` as long as it lives, whatever ends it; that lock, not a pid, says whether a stack
runs. `supervisor.json` names its children, for the systems on which they can outlive it.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from spotune.contracts.base import Contract
from spotune.local import emulator, processes
from spotune.local.state import ACCOUNT, EVENT_SOURCE, REGION, ProcessMark, aws_environment, write_private

DOUBLE_GRACE_SECONDS = 30.0
"""For uploading the last checkpoints of what runs."""
EMULATOR_GRACE_SECONDS = 20.0
GRACE_SECONDS = DOUBLE_GRACE_SECONDS + EMULATOR_GRACE_SECONDS + 5.0

_POLL_SECONDS = 0.1


class Running(Contract):
    """What a supervisor has started."""

    emulator_port: int
    double_port: int
    guarded: bool = False
    """Signatures and policies are checked."""
    supervisor: ProcessMark
    children: dict[str, ProcessMark] = {}

    @property
    def emulator_url(self) -> str:
        """Where S3, DynamoDB, the API and the rest answer."""
        return f"http://127.0.0.1:{self.emulator_port}"

    @property
    def double_url(self) -> str:
        """Where SageMaker's double answers."""
        return f"http://127.0.0.1:{self.double_port}"


def command(home: Path, emulator_port: int, double_port: int, *, guarded: bool = False) -> list[str]:
    """The command line that runs a supervisor."""
    return [
        *(sys.executable, "-m", "spotune.local.supervisor", "--home", str(home)),
        *("--emulator-port", str(emulator_port), "--double-port", str(double_port)),
        *(["--guarded"] if guarded else []),
    ]


def environment() -> dict[str, str]:
    """This process's environment, without what would lead the children astray."""
    # A profile of the person's own would be looked up in a configuration that is kept out.
    return {key: value for key, value in os.environ.items() if key != "AWS_PROFILE"}


def take_lock(path: Path) -> IO[str] | None:
    """The lock, held until it is closed or this process ends; None where another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def lock_path(home: Path) -> Path:
    """Held by a living supervisor."""
    return home / "supervisor.lock"


def is_running(home: Path) -> bool:
    """Whether a supervisor of this home lives."""
    lock = take_lock(lock_path(home))
    if lock is not None:
        lock.close()
    return lock is None


def read_running(home: Path) -> Running | None:
    """What the last supervisor of this home started, whether it still lives or not."""
    try:
        return Running.model_validate_json(running_path(home).read_bytes())
    except (OSError, ValidationError):
        return None


def running_path(home: Path) -> Path:
    """The file that `read_running` reads."""
    return home / "supervisor.json"


def main() -> int:
    """Run the emulator and the double until a signal comes or one of them ends."""
    parser = argparse.ArgumentParser(prog="spotune.local.supervisor")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--emulator-port", type=int, required=True)
    parser.add_argument("--double-port", type=int, required=True)
    parser.add_argument("--guarded", action="store_true")
    arguments = parser.parse_args()
    lock = take_lock(lock_path(arguments.home))
    if lock is None:
        print(f"another supervisor runs in {arguments.home}")
        return 1
    with lock:
        return _supervise(arguments.home, arguments.emulator_port, arguments.double_port, guarded=arguments.guarded)


def _supervise(home: Path, emulator_port: int, double_port: int, *, guarded: bool) -> int:
    asked_to_end = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: asked_to_end.append(True))
    itself = processes.mark(os.getpid())
    if itself is None:
        return 1
    running = Running(emulator_port=emulator_port, double_port=double_port, guarded=guarded, supervisor=itself)
    children: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, line in _children(home, running).items():
            children[name] = _start(home, running, name, line)
            marks = {name: mark for name, child in children.items() if (mark := processes.mark(child.pid))}
            write_private(running_path(home), running.with_(children=marks).model_dump_json(indent=2))
        while not asked_to_end:
            for name, child in children.items():
                if child.poll() is not None:
                    print(f"{name} ended with status {child.returncode}; the stack ends with it", flush=True)
                    return 1
            time.sleep(_POLL_SECONDS)
    finally:
        _end(children)
    return 0


def _children(home: Path, running: Running) -> dict[str, list[str]]:
    double = [
        *(sys.executable, "-m", "spotune.local.double", "--home", str(home)),
        *("--port", str(running.double_port), "--emulator", running.emulator_url),
        *("--event-source", EVENT_SOURCE, "--region", REGION, "--account", ACCOUNT),
        *(["--guarded"] if running.guarded else []),
    ]
    return {"emulator": emulator.command(), "double": double}


def _start(home: Path, running: Running, name: str, line: list[str]) -> subprocess.Popen[bytes]:
    settings = environment() | aws_environment(running.emulator_url, running.double_url)
    if name == "emulator":
        settings |= emulator.environment(home, running.emulator_port, guarded=running.guarded)
    return processes.start(line, environment=settings, log=home / "logs" / f"{name}.log", with_parent=True)


def _end(children: dict[str, subprocess.Popen[bytes]]) -> None:
    """The double first: it uploads what its jobs made to the emulator."""
    for name, grace in (("double", DOUBLE_GRACE_SECONDS), ("emulator", EMULATOR_GRACE_SECONDS)):
        if name in children:
            mark = processes.mark(children[name].pid)
            if mark is not None:
                processes.end(mark, grace_seconds=grace)
            children[name].wait()


if __name__ == "__main__":
    sys.exit(main())
