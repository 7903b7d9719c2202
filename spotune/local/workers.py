"""How many processes a Lambda function gets, and who waits for one.

ministack starts a process for every call that finds none free, without limit. Each start costs a processor half a
second, so ten calls a second on two cores begin more work than they end. Here a function has two processes a core, and
a call waits for the first that is free, first come first served. More are started, one at a time, only where no call
has ended for seconds: where all are held up by long work, not by many calls.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
import threading
import time
import zipfile
from collections import defaultdict, deque
from io import BytesIO
from pathlib import Path
from typing import Any

from ministack.core import lambda_runtime

MOST_PROCESSES = 10
"""Of one function: as many as the launch queue's MaximumConcurrency, so that nine dataset checks hold nobody up."""
FEW_PROCESSES = min(2 * (os.cpu_count() or 1), MOST_PROCESSES)
"""Of one function, started one by one as long as calls wait. They mostly wait themselves, for the emulator."""
STANDSTILL_SECONDS = 2.0
"""Without the end of any call, after which one more process than the few is started."""

_LOOK_SECONDS = 0.25
"""Between two looks of a call that waits at whether another process is needed."""
_FIRST_LINE_SECONDS = 0.005
_QUIET_SECONDS = 0.002
"""For what a handler logged to come through its pipe. It was written before the answer, which is here already."""
_EMPTY_ZIP = b"PK\x05\x06" + bytes(18)

logger = logging.getLogger(__name__)
_unpacking = threading.Lock()


class Worker(lambda_runtime.Worker):  # type: ignore[misc]
    """A function's process as ministack runs it, without two of its habits.

    ministack unpacks the bundle for each, in the process that answers all requests: here all share one copy. And after
    each call that logged nothing it waits 50 ms for a log.
    """

    def __init__(self, key: str, func_name: str, config: dict[str, Any], code_zip: bytes) -> None:
        variables = config.get("Environment", {}).get("Variables", {})
        environment = {"Variables": {**variables, "PYTHONPATH": str(_unpacked(code_zip))}}
        super().__init__(func_name, {**config, "Environment": environment}, _EMPTY_ZIP)
        self.key = key

    @property
    def ready(self) -> bool:
        """Whether its process has been started."""
        return self._start_time is not None

    def _drain_stderr_bounded(self, *_: float) -> str:
        log: str = super()._drain_stderr_bounded(_FIRST_LINE_SECONDS, _QUIET_SECONDS)
        return log


class _Turn:
    """A call's place in the queue; `worker` is set when a process is handed to it."""

    def __init__(self) -> None:
        self.worker: Worker | None = None
        self.come = threading.Event()


class Workers:
    """Stands in for ministack's `acquire_worker` and `release_worker`, over its own table of processes.

    No handler here calls a function, so that waiting cannot end in a circle.
    """

    def __init__(
        self, *, few: int = FEW_PROCESSES, most: int = MOST_PROCESSES, standstill: float = STANDSTILL_SECONDS
    ) -> None:
        self._few = few
        self._most = most
        self._standstill = standstill
        self._queues: defaultdict[str, deque[_Turn]] = defaultdict(deque)
        self._ended_at: defaultdict[str, float] = defaultdict(time.monotonic)

    def acquire(
        self, func_name: str, config: dict[str, Any], code_zip: bytes, qualifier: str = "$LATEST"
    ) -> tuple[Worker | None, str]:
        """A process for one call; None after the function's own timeout, which ministack answers as a throttle."""
        key = lambda_runtime._worker_key(func_name, config, qualifier)
        deadline = time.monotonic() + float(config.get("Timeout", 30))
        turn = _Turn()
        with lambda_runtime._lock:
            free = self._free_or_first(key, func_name, config, code_zip)
            if free is not None:
                return free, "reused" if free.ready else "spawn"
            self._queues[key].append(turn)
        while not turn.come.wait(min(_LOOK_SECONDS, max(0.0, deadline - time.monotonic()))):
            if time.monotonic() < deadline:
                self._start_another(key, func_name, config, code_zip)
            elif self._gave_up(key, turn):
                return None, "func_cap"
        return turn.worker, "reused"

    def release(self, worker: Worker | None) -> None:
        """Hand a process to the call that has waited longest, or lay it aside."""
        if worker is None:
            return
        with lambda_runtime._lock:
            self._ended_at[worker.key] = time.monotonic()
            worker.last_used = time.time()
            queue = self._queues[worker.key]
            if not queue or worker not in lambda_runtime._workers.get(worker.key, ()):
                worker.in_use = False
                return
            turn = queue.popleft()
            turn.worker = worker
            turn.come.set()

    def _free_or_first(self, key: str, func_name: str, config: dict[str, Any], code_zip: bytes) -> Worker | None:
        entries: list[Worker] = lambda_runtime._workers.setdefault(key, [])
        free = next((one for one in entries if not one.in_use), None)
        if free is None and not entries:
            # Its call starts it, and is told what goes wrong.
            free = Worker(key, func_name, config, code_zip)
            entries.append(free)
        if free is not None:
            free.in_use, free.last_used = True, time.time()
        return free

    def _start_another(self, key: str, func_name: str, config: dict[str, Any], code_zip: bytes) -> None:
        with lambda_runtime._lock:
            entries = lambda_runtime._workers.setdefault(key, [])
            stands_still = time.monotonic() - self._ended_at[key] > self._standstill
            if len(entries) >= (self._most if stands_still else self._few) or not all(one.ready for one in entries):
                return
            worker = Worker(key, func_name, config, code_zip)
            worker.in_use = True
            entries.append(worker)
        threading.Thread(target=self._start, args=(worker,), daemon=True, name=f"start-{func_name}").start()

    def _start(self, worker: Worker) -> None:
        try:
            lambda_runtime.ensure_spawned(worker)
        except Exception as error:  # the edge of a thread: the calls that wait have the other processes
            logger.warning("another process of %s did not start: %s", worker.func_name, error)
            with lambda_runtime._lock:
                entries = lambda_runtime._workers.get(worker.key, [])
                if worker in entries:
                    entries.remove(worker)
            lambda_runtime.kill_workers([worker])
            return
        self.release(worker)

    def _gave_up(self, key: str, turn: _Turn) -> bool:
        """Leave the queue; False where a process was handed over at the last moment."""
        with lambda_runtime._lock:
            if turn.worker is None:
                self._queues[key].remove(turn)
            return turn.worker is None


def limit_processes() -> None:
    """Put this in ministack's place, in the process that runs it."""
    from ministack.services import lambda_svc

    workers = Workers()
    lambda_svc.acquire_worker, lambda_svc.release_worker = workers.acquire, workers.release


def _unpacked(code_zip: bytes) -> Path:
    """The folder that holds a bundle's files; unpacked once while this process lives."""
    folder = Path(tempfile.gettempdir(), f"spotune-code-{hashlib.sha256(code_zip).hexdigest()[:20]}")
    with _unpacking:
        if not folder.exists():
            unfinished = folder.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            with zipfile.ZipFile(BytesIO(code_zip)) as archive:
                archive.extractall(unfinished)
            unfinished.rename(folder)
    return folder
