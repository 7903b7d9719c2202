"""How a process of the job ends, told by itself or by whoever finds it dead."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from spotune.contracts.base import Contract
from spotune.contracts.training import ExitCode, Failure
from training_container.faults import INTERNAL, TooLarge, failure_of, host_lost, out_of_memory, process_died
from training_container.folders import Folders, replace_file

OUTCOME_VARIABLE = "SPOTUNE_OUTCOME"
"""The file in which a process that the launcher started says how it ended."""


class Outcome(Contract):
    """How a process ended."""

    code: ExitCode
    failure: Failure | None = None
    too_large: bool = False
    """A forward or backward pass did not fit into its memory: with half the micro-batch it may."""
    killed: bool = False
    """It was ended by a signal, which it could not speak about."""
    aborted: bool = False
    """That signal was its own SIGABRT."""
    at: float
    """Seconds since the epoch."""

    @classmethod
    def of(cls, code: ExitCode) -> Outcome:
        """A process that came to its end."""
        return cls(code=code, at=time.time())

    @classmethod
    def of_error(cls, error: Exception) -> Outcome:
        """A process that an exception ended."""
        too_large = isinstance(error, TooLarge)
        failure, code = failure_of(out_of_memory(str(error)) if too_large else error)
        return cls(code=code, failure=failure, too_large=too_large, at=time.time())

    @classmethod
    def of_dead(cls, rank: int, code: int) -> Outcome:
        """A process that ended without a word; `code` is Popen's."""
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return cls.of_error(process_died(rank, how)).with_(killed=code < 0, aborted=code == -signal.SIGABRT)

    @classmethod
    def of_lost(cls, host: str) -> Outcome:
        """A host that does not answer any more."""
        return cls.of_error(host_lost(host)).with_(killed=True)


def cause(outcomes: Iterable[Outcome]) -> Outcome:
    """What ended the job: of several failures the first one, since the others follow from it.

    One that knows its fault comes first. One that a signal killed comes before those that know none: they speak of the
    connection to it. One that aborted comes last: NCCL aborts the processes that have lost another.
    """
    found = list(outcomes)
    failed = [outcome for outcome in found if outcome.failure is not None]
    return min(failed, key=_precedence) if failed else found[0]


def _precedence(outcome: Outcome) -> tuple[bool, bool, bool, float]:
    knows = outcome.failure is not None and outcome.failure.code != INTERNAL
    return outcome.aborted, not knows, outcome.killed, outcome.at


def tell(outcome: Outcome, folders: Folders) -> ExitCode:
    """Say how this process ended: to the launcher that started it, else to SageMaker; returns its exit code."""
    if outcome.failure is not None:
        print(outcome.failure.model_dump_json(), file=sys.stderr, flush=True)
    with contextlib.suppress(OSError):  # on a full disk the log and the exit code still say it
        if path := os.environ.get(OUTCOME_VARIABLE):
            replace_file(Path(path), outcome.model_dump_json().encode())
        elif outcome.failure is not None:
            replace_file(folders.failure, outcome.failure.model_dump_json().encode())
    return outcome.code
