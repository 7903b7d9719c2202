"""A training job whose processes stand still, so that no machine is too fast to be interrupted on the way."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx

from spotune.local.double import guardian
from spotune.local.state import StackState
from tests.polling import wait_for


@contextlib.contextmanager
def standing_still(stack: StackState, name: str, step: int = 0) -> Iterator[None]:
    """From the first checkpoint of `step` or later on the instance's disk until this ends; its sync to S3 goes on.

    With no step, from its start: what runs in it is then still importing.
    """
    if step:
        wait_for(lambda: _saved(stack.home, name, step) or None, f"a checkpoint of step {step}", pause=0.005)
    running = wait_for(lambda: _processes(stack, name) or None, f"processes of {name}")
    _send(signal.SIGSTOP, running)
    try:
        yield
    finally:
        _send(signal.SIGCONT, running)


def _processes(stack: StackState, name: str) -> list[int]:
    job = httpx.get(f"{stack.double_url}/_double/jobs/{name}", trust_env=False).raise_for_status().json()
    assert job["TrainingJobStatus"] == "InProgress", f"{name} ended before it could be held"
    table = guardian.processes()
    return [pid for parent in job["Processes"] for pid in guardian.descendants(parent, table)]


def _saved(home: Path, name: str, step: int) -> bool:
    folder = home / "double" / "jobs" / name / "ml" / "checkpoints"
    manifests = folder.glob("checkpoint-*/manifest.json")
    return any(int(manifest.parent.name.partition("-")[2]) >= step for manifest in manifests)


def _send(number: signal.Signals, pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
