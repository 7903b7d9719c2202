"""What decisions and passes measure: each thing once, and what is measured is what happened."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotune.contracts.base import MICRO
from spotune.contracts.events import AttemptAccepted, AttemptRefused, Event
from spotune.contracts.job import JobError, active_job
from spotune.contracts.measures import Measurement
from spotune.contracts.training import Failure
from spotune.lifecycle import decide, measure_decision, measure_pass, open_prepared, waits_since
from spotune.lifecycle.measures import OPEN_STATES
from tests.factories import NOW, job, observed, prepared, report
from tests.lifecycle.test_finished import MEASURED, running
from tests.lifecycle.test_invariants import billed, events

A10G = {**MEASURED, "device": "NVIDIA A10G"}


def measured(before, event: Event, now: float = NOW) -> dict[tuple[str, str], float]:
    """By name and dimension's value."""
    decision = decide(before, event, now)
    return {(one.name, one.by): one.value for one in measure_decision(before, decision)}


def completed(**changes):
    return observed(
        status="Completed",
        secondary_status="Completed",
        started_at=NOW + 60,
        training_seconds=3600,
        billable_seconds=1440,
        report=report(**A10G),
        **changes,
    )


def test_a_submission_is_counted_with_its_first_decision():
    assert [one.name for one in measure_decision(None, open_prepared(job(), prepared(), NOW))] == ["JobsSubmitted"]


def test_queue_and_start_are_timed_from_submission_and_order():
    opened = decide(job(), prepared(), NOW + 20).job
    assert measured(opened, AttemptAccepted(name="ftjob-abc-1"), NOW + 50) == {("QueueSeconds", ""): 50.0}
    accepted = decide(opened, AttemptAccepted(name="ftjob-abc-1"), NOW + 50).job
    assert measured(accepted, observed(started_at=NOW + 320), NOW + 400) == {("TimeToStart", "spot"): 300.0}


def test_only_the_first_acceptance_ends_the_queue():
    opened = decide(job(), prepared(), NOW).job
    refused = AttemptRefused(name="ftjob-abc-1", reason="quota", message="0")
    assert measured(opened, refused) == {("AttemptsEnded", "quota"): 1}
    tried_again = decide(running(), observed(status="Failed", secondary_status="Failed", failure_reason="x"), NOW).job
    assert measured(tried_again, AttemptAccepted(name="ftjob-abc-2"), NOW + 900) == {}


def test_interruptions_are_counted_as_they_come():
    once = decide(running(), observed(secondary_status="Interrupted", interruptions=1), NOW).job
    assert measured(running(), observed(secondary_status="Interrupted", interruptions=1))[("Interruptions", "")] == 1
    assert measured(once, observed(secondary_status="Training", interruptions=3))[("Interruptions", "")] == 2


def test_an_end_has_its_outcome_its_money_and_its_forecast():
    seen = measured(running(), completed(), NOW + 7200)
    assert seen[("JobsEnded", "succeeded")] == 1
    assert seen[("AttemptsEnded", "completed")] == 1
    assert seen[("Spend", "spot")] == 0.4
    assert seen[("ForecastCostRatio", "")] == 2.0
    assert seen[("ForecastHoursRatio", "")] == 2.0
    assert not [name for name, _ in seen if name == "JobsFailed"]


def test_a_run_on_another_device_says_nothing_of_forecasts():
    elsewhere = completed().with_(report=report(**MEASURED))
    assert not [name for name, _ in measured(running(), elsewhere) if name.startswith("Forecast")]


def test_a_failure_has_the_cause_that_explain_gives():
    fault = Failure(code="out_of_memory", message="One sequence does not fit.")
    seen = measured(
        running(), observed(status="Failed", secondary_status="Failed", exit_code=2, failure=fault, failure_reason="x")
    )
    assert seen[("JobsFailed", "out_of_memory")] == seen[("JobsEnded", "failed")] == 1
    assert seen[("AttemptsEnded", "user_error")] == 1


@pytest.mark.parametrize(("cap", "warned"), [(800_000, 1), (900_000, 0)])
def test_passing_half_of_the_cap_is_counted(cap, warned):
    seen = measured(running(cap=cap), completed())
    assert seen.get(("CapWarnings", ""), 0) == warned


@settings(max_examples=200)
@given(st.lists(events(), max_size=25))
def test_whatever_happens_each_thing_is_measured_once(happened):
    first = open_prepared(job(cap=50 * MICRO), prepared(), NOW)
    record, sent = first.job, list(measure_decision(None, first))
    for number, (event, share) in enumerate(happened):
        decision = decide(record, billed(record, event, share), NOW + 700 * number)
        if decision is not None:
            sent += measure_decision(record, decision)
            record = decision.job
    total: Counter[str] = Counter()
    for one in sent:
        total[one.name] += one.value
    assert total["JobsSubmitted"] == 1
    assert total["JobsEnded"] == record.terminal
    assert total["JobsFailed"] == (record.state == "failed")
    assert round(total["Spend"] * MICRO) == record.billed
    assert total["Interruptions"] == sum(attempt.interruptions for attempt in record.attempts)


def test_a_pass_counts_every_open_state_and_the_longest_wait():
    jobs = [
        job(state="queued", created_at=NOW - 500),
        job(state="queued", created_at=NOW - 50),
        running(),
        job(state="failed", error=JobError(code="internal", message="x")),
    ]
    seen = {(one.name, one.by): one.value for one in measure_pass(map(active_job, jobs), {}, NOW - 90, NOW)}
    counts = {state: value for (name, state), value in seen.items() if name == "Jobs"}
    assert counts == dict.fromkeys(OPEN_STATES, 0) | {"queued": 2, "running": 1}
    assert seen[("OldestQueuedSeconds", "")] == 500
    assert seen[("OldestCommandSeconds", "")] == 90


def test_a_pass_over_nothing_sends_noughts():
    sent = measure_pass((), {}, None, NOW)
    assert {one.value for one in sent} == {0}
    assert {one.name for one in sent} == {"Jobs", "OldestQueuedSeconds", "OldestCommandSeconds"}


def test_a_wait_after_work_counts_from_the_end_of_that_work():
    worked = decide(
        running(created_at=NOW - 9000),
        observed(
            status="Failed", secondary_status="Failed", failure_reason="x", training_seconds=600, ended_at=NOW - 100.0
        ),
        NOW,
    ).job
    assert worked.state == "queued"
    assert waits_since(worked) == NOW - 100
    sent = measure_pass([active_job(worked)], {worked.id: waits_since(worked)}, None, NOW)
    assert {one.name: one.value for one in sent}["OldestQueuedSeconds"] == 100


@pytest.mark.parametrize(("name", "by"), [("Spend", ""), ("JobsSubmitted", "acme")])
def test_a_measurement_has_its_metrics_dimension_and_no_other(name, by):
    with pytest.raises(ValueError, match="dimension"):
        Measurement(name, 1, by)
