"""What a decision tells the outside, and that it tells it once."""

from __future__ import annotations

import pytest

from spotune.contracts.base import MICRO
from spotune.contracts.commands import Notify, WarnOfMonth
from spotune.contracts.events import (
    AttemptAccepted,
    AttemptRefused,
    CancelRequested,
    Event,
    PauseRequested,
    Refused,
    ResumeRequested,
    RungDue,
    TurnCame,
)
from spotune.contracts.job import Decision, JobError, JobRecord
from spotune.contracts.training import Failure
from spotune.lifecycle import decide, open_job, open_prepared
from tests.factories import NOW, job, observed, prepared, report

FIRST = "ftjob-abc-1"
STOPPED = {"status": "Stopped", "secondary_status": "Stopped"}


def after(record: JobRecord, *events: Event) -> JobRecord:
    for event in events:
        record = decided(record, event).job
    return record


def decided(record: JobRecord, event: Event) -> Decision:
    decision = decide(record, event, NOW + 60)
    assert decision is not None
    return decision


def told(decision: Decision) -> list[str]:
    return [command.type for command in decision.commands if isinstance(command, Notify)]


@pytest.fixture
def queued() -> JobRecord:
    return open_prepared(job(), prepared(), NOW).job


@pytest.fixture
def starting(queued: JobRecord) -> JobRecord:
    return after(queued, AttemptAccepted(name=FIRST))


@pytest.fixture
def running(starting: JobRecord) -> JobRecord:
    return after(starting, observed())


def test_a_job_on_its_way_tells_nothing(queued: JobRecord) -> None:
    assert told(open_job(job(), NOW)) == told(open_prepared(job(), prepared(), NOW)) == []
    assert told(decided(queued, AttemptAccepted(name=FIRST))) == []


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (observed(secondary_status="Interrupted", interruptions=1), "interrupted"),
        (observed(status="Completed", secondary_status="Completed", report=report()), "succeeded"),
        (
            observed(status="Failed", secondary_status="Failed", exit_code=2, failure=Failure(code="x", message="y")),
            "failed",
        ),
        (observed(**STOPPED), "cancelled"),
    ],
)
def test_what_becomes_of_a_running_job_is_told(running: JobRecord, event: Event, kind: str) -> None:
    decision = decided(running, event)
    assert told(decision) == [f"fine_tuning.job.{kind}"]


def test_running_is_told_when_it_begins_and_after_each_interruption(starting: JobRecord) -> None:
    assert told(decided(starting, observed())) == ["fine_tuning.job.running"]
    interrupted = after(starting, observed(), observed(secondary_status="Interrupted", interruptions=1))
    assert told(decided(interrupted, observed(interruptions=1))) == ["fine_tuning.job.running"]
    assert decide(after(starting, observed()), observed(), NOW + 60) is None


def test_a_pause_is_told_when_it_is_reached_and_a_resume_is_not(running: JobRecord) -> None:
    asked = decided(running, PauseRequested())
    paused = decided(asked.job, observed(**STOPPED))
    assert (told(asked), told(paused)) == ([], ["fine_tuning.job.paused"])
    assert told(decided(paused.job, ResumeRequested())) == []
    assert told(decided(paused.job, CancelRequested())) == ["fine_tuning.job.cancelled"]


def test_a_refused_dataset_is_told() -> None:
    checking = open_job(job(), NOW).job
    assert told(decided(checking, Refused(error=JobError(code="no_rows", message="none")))) == [
        "fine_tuning.job.failed"
    ]


@pytest.mark.parametrize("reason", ["quota", "capacity"])
def test_a_wait_is_told_once_however_often_it_is_tried_again(queued: JobRecord, reason: str) -> None:
    """Refused on every rung, called again, refused again: one wait. It is news again after the job has run."""
    record, heard = queued, []
    for _ in range(12):
        refused = {"name": record.attempts[-1].name, "reason": reason, "message": "none"}
        for event in (AttemptRefused.model_validate(refused), TurnCame(), RungDue()):
            decision = decide(record, event, NOW + 60)
            if decision is not None:
                heard, record = heard + told(decision), decision.job
    assert heard == ["fine_tuning.job.waiting"]
    last = record.attempts[-1].name
    running = after(record, AttemptAccepted(name=last), observed(last))
    waits = running.with_(state="paused", waiting_for="resume", attempts=(), reserved=0)
    resumed = decide(waits, ResumeRequested(), NOW + 90, full_line="jobs")
    assert resumed is not None
    assert told(resumed) == ["fine_tuning.job.waiting"]


def test_a_wait_without_a_line_in_the_log_gets_one(queued: JobRecord) -> None:
    """A training job that was given up still lives: the next attempt waits for its end."""
    given_up = after(queued, AttemptRefused(name=FIRST, reason="capacity", message="none"), AttemptAccepted(name=FIRST))
    waits = [one for one in given_up.attempts if one.live]
    assert waits
    paused = given_up.with_(state="paused", waiting_for="resume", attempts=tuple(waits))
    resumed = decided(paused, ResumeRequested())
    (notify,) = (command for command in resumed.commands if isinstance(command, Notify))
    assert notify.type == "fine_tuning.job.waiting"
    assert notify.sequence == resumed.job.event_seq == resumed.log[-1].sequence


def test_each_notification_names_a_line_of_its_own_decision(running: JobRecord) -> None:
    decision = decided(running, observed(status="Completed", secondary_status="Completed", report=report()))
    (notify,) = (command for command in decision.commands if isinstance(command, Notify))
    assert notify.sequence in [line.sequence for line in decision.log]


def test_a_passed_share_of_the_cap_is_told_with_its_figures(running: JobRecord) -> None:
    tight = running.with_(cap=MICRO)
    seconds = 2160  # 60 % of an hour at a dollar
    decision = decided(tight, observed(**STOPPED, billable_seconds=seconds))
    assert told(decision) == ["budget.warning", "fine_tuning.job.cancelled"]
    warning = next(command for command in decision.commands if isinstance(command, Notify))
    line = next(line for line in decision.log if line.sequence == warning.sequence)
    assert line.data == {"reached": 50, "billed": 600_000, "limit": MICRO}


def test_the_month_is_looked_at_where_money_was_billed_and_only_there(running: JobRecord) -> None:
    billed = decided(running, observed(**STOPPED, billable_seconds=10))
    free = decided(running, observed(**STOPPED))
    assert WarnOfMonth(month="2026-09") in billed.commands
    assert WarnOfMonth(month="2026-09") not in free.commands
