"""How a run ends before it is published: a typed fault, or a stop that was asked for."""

from __future__ import annotations

import traceback

from spotune.contracts.errors import SpotuneError
from spotune.contracts.faults import DISK_FULL, Fault
from spotune.contracts.training import ExitCode, Failure

INTERNAL = "internal"
"""Code of a failure that is no known fault."""

FAILURE_CHARACTERS = 900
"""The whole JSON object stays below this, so that SageMaker's cut at 1,024 characters leaves it readable."""

LEFT_OUT = "(its words are left out: they may quote a row)"
"""A failure goes to the training job's log and its failure reason, which more people read than the data."""
_WITH_ROWS = ("spotune.data.", "training_container.corpus.", "training_container.evaluation.")
"""Rooms whose code has rows and prompts at hand, so that whatever fails there may quote them."""

_OF_MACHINES = (RuntimeError, OSError, MemoryError, ImportError)
"""Kinds whose words are about devices, shapes and files even there."""

_DISK_FULL_WORDS = tuple(f"os error {number}" for number in DISK_FULL)
"""As safetensors' writer says it, in an error of its own."""
_CPU_ALLOCATOR = "can't allocate memory"


class TrainingFault(Fault):
    """The run cannot go on for a reason that the person who submitted it can act on."""


class Stopped(BaseException):
    """The process was asked to end (SIGTERM). Whatever was trained goes into a checkpoint.

    No `Exception`: it can come up anywhere in a library, which must not take it for one of its own.
    """


class TooLarge(Exception):
    """A forward or backward pass did not fit into one rank's memory; with half the micro-batch it may."""


def out_of_memory(evidence: str) -> TrainingFault:
    """The fault of a step that does not fit even with the smallest micro-batch."""
    return TrainingFault(
        "out_of_memory",
        "One sequence does not fit into the memory of this machine.",
        evidence=evidence,
        remedy="Lower training.max_sequence_length, turn gradient checkpointing on, use qlora, or allow a larger GPU.",
    )


def process_died(rank: int, how: str) -> TrainingFault:
    """The fault of a process of several that ended without a word, such as by the system where memory ended."""
    return TrainingFault(
        "process_died",
        f"The process of rank {rank} {how} without a word; the others cannot go on without it.",
        evidence="a SIGKILL that nobody sent is the system's, where the host's memory ends",
        remedy="It is tried again from its last checkpoint. If it dies again, allow an instance with more memory.",
        exit_code=ExitCode.INTERNAL,
    )


def host_lost(host: str) -> TrainingFault:
    """The fault of a host that does not answer any more."""
    return TrainingFault(
        "host_lost",
        f"Host {host} does not answer any more; the other hosts cannot go on without it.",
        remedy="It is tried again from its last checkpoint.",
        exit_code=ExitCode.INTERNAL,
    )


def failure_of(error: BaseException) -> tuple[Failure, ExitCode]:
    """The typed failure and the exit code that an exception stands for."""
    fault = error if isinstance(error, TrainingFault) else _as_fault(error)
    if fault is not None:
        failure = fault.failure
        return _fitted(failure), fault.exit_code
    words = LEFT_OUT if _may_quote_a_row(error) else str(error)
    failure = Failure(
        code=INTERNAL,
        message=f"The trainer itself failed: {type(error).__name__}: {words}",
        evidence=f"{''.join(traceback.format_tb(error.__traceback__)[-2:])}{type(error).__name__}: {words}".strip(),
        remedy="Start the job again; it goes on from its last checkpoint. If it fails again, report the evidence.",
    )
    return _fitted(failure), ExitCode.INTERNAL


def _as_fault(error: BaseException) -> TrainingFault | None:
    """The fault behind an exception of the system's or a library's own."""
    if isinstance(error, SpotuneError):
        message = str(error).removesuffix(error.remedy).strip()
        return TrainingFault(error.code, message, remedy=error.remedy)
    if _is_disk_full(error):
        return TrainingFault(
            "disk_full",
            "The disk is full; the last checkpoint that was finished is intact.",
            evidence=str(error),
            remedy="Give the training job a larger volume, or free space under the checkpoint folder.",
        )
    # torch is not imported here; where the host's memory ends it raises a plain RuntimeError, and only its words tell.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or _CPU_ALLOCATOR in str(error):
        return out_of_memory(str(error))
    return None


def _may_quote_a_row(error: BaseException) -> bool:
    if isinstance(error, _OF_MACHINES):
        return False
    names = (str(frame.f_globals.get("__name__", "")) for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(name.startswith(_WITH_ROWS) for name in names)


def _is_disk_full(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in DISK_FULL
    return any(words in str(error) for words in _DISK_FULL_WORDS)


def _fitted(failure: Failure) -> Failure:
    """The same failure, its evidence (at the front: the end names the cause), then its message, cut to size."""
    while failure.evidence and _too_long(failure):
        failure = failure.with_(evidence=failure.evidence[1 + len(failure.evidence) // 8 :])
    while failure.message and _too_long(failure):
        failure = failure.with_(message=failure.message[: -1 - len(failure.message) // 8])
    return failure


def _too_long(failure: Failure) -> bool:
    return len(failure.model_dump_json()) > FAILURE_CHARACTERS
