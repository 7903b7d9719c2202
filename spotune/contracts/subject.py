"""What the present work is about: job, tenant, attempt. Each log line and each trace within it carries these keys.

    with about(function="launch"):          a new subject, forgotten at the end of the block
        know_job(job)                       known from here on to whatever runs inside the block

Nothing is kept beyond the outermost block, so that one invocation's job is never in the next one's lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from spotune.contracts.job import JobRecord

_subject: ContextVar[dict[str, object] | None] = ContextVar("subject", default=None)


def subject() -> Mapping[str, object]:
    """The keys that are known now; none outside of `about`."""
    return _subject.get() or {}


@contextmanager
def about(**keys: object) -> Iterator[None]:
    """Within the block these keys are known beside those around it, and what is learnt inside is forgotten after it."""
    token = _subject.set({**subject(), **keys})
    try:
        yield
    finally:
        _subject.reset(token)


def know(**keys: object) -> None:
    """Add keys to the block around; without one nothing is kept. None takes a key away."""
    known = _subject.get()
    if known is not None:
        known.update(keys)
        for name in [name for name, value in known.items() if value is None]:
            del known[name]


def know_job(job: JobRecord, name: str = "") -> None:
    """Know a job with its tenant and attempt.

    Args:
        name: the training job that it is about, where it is not the newest attempt's.
    """
    newest = job.attempt.number if job.attempt is not None else None
    know(job=job.id, tenant=job.tenant, attempt=attempt_number(name) or newest)


def attempt_number(name: str) -> int | None:
    """The number in a training job's name, `<job id>-<number>`; None where there is none."""
    digits = name.rpartition("-")[2]
    return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < 10 else None
