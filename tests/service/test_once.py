"""A thousand times the same thing is one thing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from spotune.contracts.request import JobRequest
from spotune.service.installation import install
from spotune.service.jobs.submit import submit
from spotune.service.launch import run_command
from tests import tiny_model
from tests.in_process import World, client_of, world

TIMES = 1000


@pytest.fixture
def here() -> World:
    made = world()
    install(made.here)
    return made


def request_of(here: World) -> JobRequest:
    file_id = client_of(here.here, "acme").upload(tiny_model.chat_rows(30))
    return JobRequest(model=tiny_model.NAME, training_file=file_id)


def test_a_thousand_submissions_at_once_with_one_key_make_one_job(here: World) -> None:
    request = request_of(here)
    with ThreadPoolExecutor(16) as threads:
        made = list(threads.map(lambda _: submit(here.here, "acme", request, "one-key").id, range(TIMES)))
    assert len(set(made)) == 1
    assert len(here.store.list_jobs("acme", after=None, limit=10).items) == 1
    job = here.store.list_jobs("acme", after=None, limit=10).items[0]
    assert here.store.ledger("acme", "2026-09", limit=0).reserved == job.reserved > 0


def test_a_thousand_deliveries_at_once_of_one_command_start_one_training_job(here: World) -> None:
    job = submit(here.here, "acme", request_of(here), "one-key")
    (message,) = here.queue.take()
    deliver = [(str(message["job_id"]), str(message["entry_id"]))] * TIMES
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda one: run_command(here.here, *one), deliver))
    assert list(here.training_jobs.specs) == [f"{job.id}-1"]
    kept = here.store.find_job(job.id)
    assert kept is not None
    assert kept.attempts[0].accepted
    assert len(kept.attempts) == 1
