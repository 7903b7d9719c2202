"""Two versions share a table while an update goes on, and after one that failed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spotune.contracts.errors import Unavailable
from spotune.contracts.job import ActiveJob, Decision, JobRecord, LogEvent
from spotune.contracts.request import JobRequest
from spotune.service.installation import install
from spotune.service.jobs.submit import request_sha256, submit
from spotune.store.records import decode, encode, readable
from tests import factories, tiny_model
from tests.in_process import World, client_of, world


@pytest.fixture
def here() -> World:
    made = world()
    install(made.here)
    return made


class LaterRequest(JobRequest):
    """A request as a later version has it."""

    novelty: str = "none"


def test_who_asks_again_after_an_update_gets_the_same_job(here: World) -> None:
    file_id = client_of(here.here, "acme").upload(tiny_model.chat_rows(30))
    request = JobRequest(model=tiny_model.NAME, training_file=file_id)
    first = submit(here.here, "acme", request, "one-key")
    kept = here.store.find_job(first.id)
    assert kept is not None
    written_earlier = kept.with_(request_sha256="0" * 64)
    here.store.commit(kept, Decision(job=written_earlier), limit=10**12)
    assert submit(here.here, "acme", request, "one-key").id == first.id


def test_a_field_that_a_later_version_adds_changes_no_hash() -> None:
    body: dict[str, Any] = {"model": "m", "training_file": "f", "seed": 4}
    assert request_sha256(LaterRequest(**body)) == request_sha256(JobRequest(**body))
    assert request_sha256(LaterRequest(**body, novelty="some")) != request_sha256(JobRequest(**body))
    assert request_sha256(JobRequest(**{**body, "seed": 5})) != request_sha256(JobRequest(**body))


@pytest.mark.parametrize("change", [{"novelty": 1}, {"state": "dreaming"}, {"request": {"novelty": 1}}])
def test_a_record_of_a_newer_version_is_left_alone_and_said_to_be_one(change: dict[str, Any]) -> None:
    body = json.loads(factories.job().model_dump_json())
    for name, value in change.items():
        body[name] = {**body[name], **value} if isinstance(value, dict) else value
    with pytest.raises(Unavailable) as caught:
        decode(JobRecord, json.dumps(body).encode())
    assert caught.value.code == "record_of_newer_version"
    assert next(iter(change)) in str(caught.value)


def test_a_record_that_is_broken_is_not_taken_for_a_newer_one() -> None:
    body = json.loads(factories.job().model_dump_json())
    with pytest.raises(ValueError, match="cap"):
        decode(JobRecord, json.dumps({**body, "cap": -1, "novelty": 1}).encode())


def test_a_newer_record_among_others_keeps_nobody_from_them() -> None:
    event = LogEvent(job_id="j", sequence=1, created_at=1.0, level="info", message="m")
    newer = encode(event).replace(b'"level"', b'"novelty":1,"level"')
    assert list(readable(LogEvent, [("one", newer), ("two", encode(event))])) == [event]


def test_the_reconciler_goes_over_newer_summaries() -> None:
    summary = ActiveJob(id="j", tenant="acme", created_at=1.0, state="running", reserved={"2026-09": 5})
    newer = summary.model_dump_json().replace('"id"', '"novelty":1,"id"').encode()
    assert decode(ActiveJob, newer) == summary
