"""What is known of a job spares a read, and is never believed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from spotune.contracts.events import AttemptAccepted, CancelRequested
from spotune.contracts.job import JobRecord
from spotune.contracts.request import JobRequest
from spotune.service.installation import Installation, install
from spotune.service.jobs.changes import apply
from spotune.service.jobs.submit import submit
from tests import tiny_model
from tests.in_process import World, client_of, world


class Counting:
    """A store whose calls are counted by name."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        self.calls[name] += 1
        return getattr(self._store, name)


@pytest.fixture
def made() -> World:
    made = world()
    install(made.here)
    return made


@pytest.fixture
def counting(made: World) -> Counting:
    return Counting(made.store)


@pytest.fixture
def here(made: World, counting: Counting) -> Installation:
    return replace(made.here, store=counting)


@pytest.fixture
def job(made: World) -> JobRecord:
    file_id = client_of(made.here, "acme").upload(tiny_model.chat_rows(30))
    return read(made, submit(made.here, "acme", JobRequest(model=tiny_model.NAME, training_file=file_id)).id)


def read(made: World, job_id: str) -> JobRecord:
    kept = made.store.find_job(job_id)
    assert kept is not None
    return kept


def test_a_job_that_is_known_is_not_read_again(
    made: World, here: Installation, counting: Counting, job: JobRecord
) -> None:
    after = apply(here, job.id, CancelRequested(), job)
    assert counting.calls["find_job"] == 0
    assert after == read(made, job.id)


def test_what_is_returned_can_be_known_to_the_next_change(
    made: World, here: Installation, counting: Counting, job: JobRecord
) -> None:
    accepted = apply(here, job.id, AttemptAccepted(name=job.attempts[0].name), job)
    after = apply(here, job.id, CancelRequested(), accepted)
    assert counting.calls["find_job"] == 0
    assert after == read(made, job.id)
    assert after is not None
    assert after.version == job.version + 2


def test_a_change_decided_on_old_knowledge_is_decided_again(made: World, here: Installation, job: JobRecord) -> None:
    apply(made.here, job.id, AttemptAccepted(name=job.attempts[0].name))
    after = apply(here, job.id, CancelRequested(), job)
    assert after == read(made, job.id)
    assert after is not None
    assert after.attempts[0].accepted
    assert after.cancel_requested


def test_that_nothing_changes_is_not_concluded_from_old_knowledge(
    made: World, here: Installation, job: JobRecord
) -> None:
    """Known as cancelled, it would not hear of a cancellation; as it is, it does."""
    known = job.with_(cancel_requested=True, state="cancelled", finished_at=1.0)
    after = apply(here, job.id, CancelRequested(), known)
    assert after is not None
    assert read(made, job.id).cancel_requested
