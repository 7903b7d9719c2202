"""Measurements leave after the commit, once a change, and those of a pass with each pass."""

from __future__ import annotations

from collections import Counter

import pytest

from spotune.contracts.errors import Unavailable
from spotune.contracts.request import JobRequest
from spotune.service.installation import install
from spotune.service.observation import observe
from spotune.service.reconcile import reconcile
from spotune.service.submit import submit
from tests import tiny_model
from tests.in_process import World, client_of, world


@pytest.fixture
def here() -> World:
    made = world()
    install(made.here)
    return made


def submitted(here: World, key: str | None = None) -> str:
    file_id = client_of(here.here, "acme").upload(tiny_model.chat_rows(30))
    request = JobRequest(model=tiny_model.NAME, training_file=file_id)
    return submit(here.here, "acme", request, key).id


def names(here: World) -> Counter[str]:
    return Counter(one.name for one in here.metrics.sent)


def test_what_comes_twice_is_measured_once(here: World) -> None:
    file_id = client_of(here.here, "acme").upload(tiny_model.chat_rows(30))
    request = JobRequest(model=tiny_model.NAME, training_file=file_id)
    job_id = submit(here.here, "acme", request, "one").id
    submit(here.here, "acme", request, "one")
    here.run_queue()
    here.training_jobs.observe(f"{job_id}-1", secondary_status="Training", started_at=here.clock() + 9)
    observe(here.here, f"{job_id}-1")
    observe(here.here, f"{job_id}-1")
    assert names(here) == {"JobsSubmitted": 1, "QueueSeconds": 1, "TimeToStart": 1}


def test_a_change_that_was_not_committed_is_not_measured(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = submitted(here)

    def no_answer(*_: object, **__: object) -> None:
        raise Unavailable("no answer.", code="store_unavailable")

    here.run_queue()
    sent = len(here.metrics.sent)
    monkeypatch.setattr(here.store, "commit", no_answer)
    here.training_jobs.observe(f"{job_id}-1", secondary_status="Training", started_at=here.clock() + 9)
    with pytest.raises(Unavailable):
        observe(here.here, f"{job_id}-1")
    assert len(here.metrics.sent) == sent


def test_a_pass_measures_jobs_waits_and_repairs(here: World) -> None:
    submitted(here)
    here.queue.take()  # the delivery is lost
    here.clock.now += 700
    reconcile(here.here)
    values = {(one.name, one.by): one.value for one in here.metrics.sent}
    assert values[("ReconcilerPasses", "")] == 1
    assert values[("Jobs", "queued")] == 1
    assert values[("Repairs", "commands_queued")] == 1
    assert values[("OldestCommandSeconds", "")] == values[("OldestQueuedSeconds", "")] == 700
    assert values[("PartsFailed", "")] == 0


def test_a_job_that_cannot_be_looked_at_is_counted(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    submitted(here)

    def broken(_: str) -> None:
        raise ValueError("a record of tomorrow")

    monkeypatch.setattr(here.store, "find_job", broken)
    reconcile(here.here)
    assert {one.name: one.value for one in here.metrics.sent}["PartsFailed"] == 1
