"""Checkpoints written beside training: copied into host memory at the step, written by a thread while it goes on."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import torch

from spotune.contracts.checkpoint import WRITES_APART, RunState, stretched
from training_container.checkpoints import Checkpoints
from training_container.progress import Clock

WRITING_MARGIN = 1.25
"""The next checkpoint is expected to take at most this much longer to write than the last one did."""


class Saver:
    """Writes checkpoints so that never more than `interval` seconds of training are lost, and training seldom waits.

    One checkpoint is written at a time. It is begun so early that it is whole before the one before it is `interval`
    old; where the disk was slower than expected, training waits for it. A disk that was slow twice running stretches
    `interval`, and where even that is too short for it, one write follows the other and training does not wait.
    Whatever the thread met is raised by the next call here.
    """

    def __init__(self, checkpoints: Checkpoints, clock: Clock, interval: float) -> None:
        self._checkpoints = checkpoints
        self._clock = clock
        self._asked = interval
        self._memory = HostMemory()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint", initializer=_give_way)
        self._writing: Future[None] | None = None
        self._copied_at = self._whole_at = clock()
        self._writes: tuple[float, ...] = ()
        self._slowest = 0.0

    def start(self) -> None:
        """Training begins, or goes on: from here on there is something to lose."""
        self._copied_at = self._whole_at = self._clock()

    def due(self, step_seconds: float) -> bool:
        """True where a checkpoint has to begin before another step of this length."""
        ahead = 2 * step_seconds + WRITING_MARGIN * (self._writes[-1] if self._writes else 0.0)
        return self._clock() - self._copied_at + ahead >= self.interval

    def save(self, state: RunState, files: Mapping[str, Any], *, beside: bool) -> None:
        """Keep a checkpoint of `state`; `files` are what is in it, by name, see `write_file`.

        Args:
            state: where the run is.
            files: tensors, or anything made of dicts, lists and tensors.
            beside: copy and return at once; else write from where the tensors lie, and return when it is done.

        Raises:
            OSError: the disk is full, now or at the checkpoint before.
        """
        self.wait()
        copied_at = self._clock()
        if beside:
            copy = self._memory.copy(files)
            self._writing = self._thread.submit(self._write, state, copy, copied_at)
        else:
            self._write(state, files, copied_at)
        self._copied_at = copied_at

    def keep_up(self, step_seconds: float) -> None:
        """Before a step: wait where it would make more to lose than `interval`, or than a slow disk makes inevitable.

        Raises:
            OSError: the disk is full.
        """
        if self._writing is None:
            return
        most = max(self.interval, WRITES_APART * self._usual)
        if self._writing.done() or self._clock() - self._whole_at + step_seconds >= most:
            self.wait()

    def wait(self) -> None:
        """Until nothing is being written.

        Raises:
            OSError: the disk is full.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """Let the checkpoint that is being written end, whatever comes of it: the run has an error of its own."""
        if self._writing is not None:
            wait([self._writing])
        self._thread.shutdown()

    @property
    def interval(self) -> float:
        """Seconds between checkpoints: as asked for, or as this disk allows."""
        return stretched(self._asked, self._usual)

    @property
    def warnings(self) -> tuple[str, ...]:
        """That checkpoints lay further apart than asked for, and why."""
        longest = stretched(self._asked, self._slowest)
        if longest <= self._asked:
            return ()
        return (
            f"The disk took {self._slowest:.0f} s to write a checkpoint: they lay up to {longest:.0f} s apart instead"
            f" of {self._asked:.0f} s, so that training did not wait for it.",
        )

    @property
    def _usual(self) -> float:
        """Seconds that this disk takes, as two writes agree: one that hung is none of its habits."""
        return min(self._writes) if len(self._writes) == 2 else 0.0

    def _write(self, state: RunState, files: Mapping[str, Any], copied_at: float) -> None:
        self._memory.arrived()
        self._checkpoints.save(state, files)
        self._whole_at = copied_at
        self._writes = (*self._writes[-1:], self._clock() - copied_at)
        self._slowest = max(self._slowest, self._usual)


def _give_way() -> None:
    """Where a CPU trains, this thread takes only what training leaves. On Linux a policy is each thread's own."""
    if sys.platform == "linux":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


class HostMemory:
    """The host's copy of what is trained. Its memory is kept from one checkpoint to the next: new memory costs more
    than the copy does."""

    def __init__(self) -> None:
        self._buffers: dict[str, torch.Tensor] = {}
        self._copied: torch.cuda.Event | None = None

    def copy(self, value: Any) -> Any:
        """The same with every tensor copied. A GPU copies between two steps of its own while this returns at once."""
        copied = self._copy(value, "")
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record()
        return copied

    def arrived(self) -> None:
        """Wait, in the thread that writes, until the GPU has copied."""
        if self._copied is not None:
            self._copied.synchronize()

    def _copy(self, value: Any, path: str) -> Any:
        if isinstance(value, torch.Tensor):
            buffer = self._buffer(value, path)
            buffer.copy_(value.detach(), non_blocking=True)
            return buffer
        if isinstance(value, Mapping):
            return {key: self._copy(item, f"{path}/{key}") for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._copy(item, f"{path}/{number}") for number, item in enumerate(value)]
        return value

    def _buffer(self, tensor: torch.Tensor, path: str) -> torch.Tensor:
        kept = self._buffers.get(path)
        if kept is None or kept.shape != tensor.shape or kept.dtype != tensor.dtype:
            kept = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
            self._buffers[path] = kept
        return kept
