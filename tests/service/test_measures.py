"""Measurements leave after the commit, once a change, and those of a pass with each pass."""

from __future__ import annotations

from collections import Counter

import pytest

from spotune.contracts import layout
from spotune.contracts.audit import AuditRecord
from spotune.contracts.errors import Unavailable
from spotune.contracts.job import JobRecord
from spotune.contracts.measures import METRICS
from spotune.contracts.request import JobRequest
from spotune.contracts.training import Failure
from spotune.service.access import audit
from spotune.service.installation import install
from spotune.service.jobs.observation import observe
from spotune.service.jobs.submit import submit
from spotune.service.reconcile import reconcile
from tests import tiny_model
from tests.factories import report
from tests.in_process import World, client_of, world


@pytest.fixture
def here() -> World:
    made = world()
    install(made.here)
    return made


def submitted(here: World, key: str | None = None) -> str:
    file_id = client_of(here.here, "acme").upload(tiny_model.chat_rows(30))
    request = JobRequest.model_validate(
        {"model": tiny_model.NAME, "training_file": file_id, "constraints": {"budget_usd": 2}}
    )
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
    here.clock.now += 500
    reconcile(here.here)
    values = {(one.name, one.by): one.value for one in here.metrics.sent}
    assert values[("ReconcilerPasses", "")] == 1
    assert values[("Jobs", "queued")] == 1
    assert values[("Repairs", "commands_queued")] == 1
    assert values[("OldestCommandSeconds", "")] == values[("OldestQueuedSeconds", "")] == 500
    assert values[("PartsFailed", "")] == 0


def test_a_job_that_cannot_be_looked_at_is_counted(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    submitted(here)

    def broken(_: str) -> None:
        raise ValueError("a record of tomorrow")

    monkeypatch.setattr(here.store, "find_job", broken)
    reconcile(here.here)
    assert {one.name: one.value for one in here.metrics.sent}["PartsFailed"] == 1


def trained(here: World, job: JobRecord, **changes: object) -> None:
    """Let the first attempt of a job run for two hours, with one interruption, and end."""
    here.run_queue()
    name = f"{job.id}-1"
    here.training_jobs.observe(name, secondary_status="Training", started_at=here.clock() + 60, interruptions=1)
    observe(here.here, name)
    here.clock.now += 7200
    here.training_jobs.observe(name, training_seconds=7000, billable_seconds=7000, **changes)
    observe(here.here, name)


def record_of(here: World, job_id: str) -> JobRecord:
    found = here.store.find_job(job_id)
    assert found is not None
    return found


def test_every_metric_of_the_table_is_sent_and_no_other(here: World) -> None:
    good, bad = record_of(here, submitted(here, "good")), record_of(here, submitted(here, "bad"))
    assert good.plan is not None
    folder = layout.job_uri("artifacts", good.tenant, good.id)
    left = report(job_id=good.id, device=f"NVIDIA {good.plan.chosen.gpu}")
    output = layout.model_output_uri(folder, f"{good.id}-1")
    here.objects.write(output + "report.json", left.model_dump_json().encode())
    trained(here, good, status="Completed", secondary_status="Completed")
    failure = Failure(code="out_of_memory", message="It does not fit.")
    trained(here, bad, status="Failed", secondary_status="Failed", failure=failure, exit_code=2, failure_reason="x")
    reconcile(here.here)
    nobodys = AuditRecord(id="a", tenant="acme", at=1.0, actor="k", actor_name="k", action="POST /", request_id="r")
    audit.end(here.here, nobodys, 200)
    assert set(names(here)) == set(METRICS)
