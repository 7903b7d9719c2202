"""The guardian as the double runs it: a process of its own, with a child below it."""

from __future__ import annotations

import signal
import subprocess
import sys

from spotune.local.double import guardian

SLEEPER = "import os, signal; os.write(1, b'x'); signal.pause()"


def test_what_is_killed_never_counts_as_done() -> None:
    """Two threads wait for the child's end, so that one kill says nothing: one in 25 once read as exit code 0."""
    command = [sys.executable, "-I", "-S", guardian.__file__, sys.executable, "-S", "-c", SLEEPER]
    for _ in range(75):
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdout.read(1)
            process.stdin.close()
            assert process.wait() == 128 + signal.SIGKILL
