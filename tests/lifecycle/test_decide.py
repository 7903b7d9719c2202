"""What each event makes of a job."""

from __future__ import annotations

import pytest

from spotune.contracts.base import MICRO
from spotune.contracts.commands import EndRetraining, StartAttempt, StopAttempt
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
from spotune.contracts.job import JobError, JobRecord, LedgerChange, held_places
from spotune.contracts.lines import LineChange
from spotune.contracts.money import STOP_LATENCY
from spotune.contracts.plan import Fallback
from spotune.contracts.scores import Scores
from spotune.contracts.training import Failure
from spotune.lifecycle import decide, open_job, open_prepared
from tests.factories import NOW, ON_DEMAND_PRICE, champion, job, observed, plan, prepared, report, request

FIRST, SECOND = "ftjob-abc-1", "ftjob-abc-2"
SPOT_LINE = "quota of ml.g5.xlarge (spot)"
NO_QUOTA = AttemptRefused(name=FIRST, reason="quota", message="limit is 0")


def after(record: JobRecord, *events: Event, now: float = NOW) -> JobRecord:
    """The job after these events; each must change it."""
    for event in events:
        decision = decide(record, event, now)
        assert decision is not None, f"{event.kind} changed nothing in {record.state}"
        record = decision.job
    return record


@pytest.fixture
def queued() -> JobRecord:
    return open_prepared(job(), prepared(), NOW).job


@pytest.fixture
def running(queued: JobRecord) -> JobRecord:
    return after(queued, AttemptAccepted(name=FIRST), observed())


def test_a_small_request_is_recorded_ready_to_start() -> None:
    decision = open_prepared(job(), prepared(), NOW)
    assert decision.job.state == "queued"
    assert decision.job.version == 1
    assert decision.commands == (StartAttempt(number=1),)
    assert [line.sequence for line in decision.log] == [1, 2, 3, 4]


def test_a_large_request_is_recorded_before_its_files_are_read() -> None:
    decision = open_job(job(), NOW)
    assert decision.job.state == "validating"
    assert [command.kind for command in decision.commands] == ["check_dataset"]


def test_the_worst_case_of_an_attempt_is_reserved_and_within_the_cap(queued: JobRecord) -> None:
    attempt = queued.attempts[0]
    assert attempt.reserved == -(-ON_DEMAND_PRICE * (attempt.max_runtime + 180) // 3600)
    assert queued.reserved == attempt.reserved <= queued.cap


def test_an_attempt_ends_before_the_deadline() -> None:
    record = open_prepared(job(deadline=NOW + 1000), prepared(), NOW).job
    assert record.attempts[0].max_runtime == 1000


def test_a_cap_too_small_for_any_run_fails_before_anything_is_ordered() -> None:
    decision = open_prepared(job(cap=10_000), prepared(), NOW)
    assert decision.job.state == "failed"
    assert decision.job.error is not None
    assert decision.job.error.code == "budget_exhausted"
    assert [command.kind for command in decision.commands] == ["notify"]
    assert decision.ledger.reserve == 0


def test_a_refused_dataset_fails_the_job() -> None:
    opened = open_job(job(), NOW).job
    failed = after(opened, Refused(error=JobError(code="empty_file", message="The file is empty.")))
    assert (failed.state, failed.error and failed.error.code) == ("failed", "empty_file")


def test_a_completed_attempt_with_a_report_succeeds_and_settles(running: JobRecord) -> None:
    done = after(
        running,
        observed(
            status="Completed",
            secondary_status="Completed",
            billable_seconds=900,
            report=report(),
            output_uri="s3://o/",
        ),
    )
    assert done.state == "succeeded"
    assert done.fine_tuned_model == "ft:tiny::abc"
    assert done.billed == ON_DEMAND_PRICE * 900 // 3600
    assert done.reserved == 0


def test_a_completed_attempt_without_a_report_is_tried_again(running: JobRecord) -> None:
    again = after(running, observed(status="Completed", secondary_status="Completed", billable_seconds=900))
    assert again.state == "queued"
    assert again.attempts[0].outcome == "internal"
    assert len(again.attempts) == 2


def test_stopped_is_never_success(running: JobRecord) -> None:
    ended = after(running, observed(status="Stopped", secondary_status="Stopped", report=report()))
    assert ended.state == "cancelled"
    assert ended.fine_tuned_model is None


def test_a_model_that_is_no_better_is_not_registered(running: JobRecord) -> None:
    worse = report(tuned=Scores(eval_loss=2.5, perplexity=12))
    done = after(running, observed(status="Completed", secondary_status="Completed", report=worse))
    assert done.state == "succeeded"
    assert done.fine_tuned_model is None
    assert done.gate_verdict.startswith("rejected: better_than_base: 2.5000")
    assert done.verdict is not None
    assert done.verdict.decision == "reject"


def test_a_gate_that_could_not_measure_holds_the_model_for_a_person() -> None:
    record = open_prepared(job(request=request(gate={"min_exact_match": 0.8})), prepared(), NOW).job
    record = after(record, AttemptAccepted(name=FIRST), observed())
    silent = report(tuned=Scores(eval_loss=0.5, perplexity=1.6))
    done = after(record, observed(status="Completed", secondary_status="Completed", report=silent))
    assert done.fine_tuned_model == "ft:tiny::abc"
    assert done.gate_verdict.startswith("held: min_exact_match: no answer was generated")


def ends(record: JobRecord, **changes: object) -> list[str]:
    """The commands of the decision that its attempt ended."""
    final = {"status": "Completed", "secondary_status": "Completed", "report": report(), "output_uri": "s3://o/"}
    decision = decide(record, observed(**{**final, **changes}), NOW)
    assert decision is not None
    assert decision.job.terminal
    return [command.kind for command in decision.commands if command.kind in ("register_model", "end_retraining")]


def test_a_model_of_a_group_goes_to_the_registry_whatever_its_verdict() -> None:
    grouped = job(request=request(registry={"group": "triage"}))
    record = after(open_prepared(grouped, prepared(), NOW).job, AttemptAccepted(name=FIRST), observed())
    assert ends(record) == ["register_model"]
    assert ends(record, report=report(tuned=Scores(eval_loss=2.5, perplexity=12))) == ["register_model"]
    assert ends(record, status="Stopped", secondary_status="Stopped") == []


def test_a_retraining_is_told_of_every_end_of_its_job() -> None:
    opened = open_prepared(job(retraining="rule-1/3"), prepared(), NOW).job
    record = after(opened, AttemptAccepted(name=FIRST), observed())
    failed = {
        "status": "Failed",
        "secondary_status": "Failed",
        "exit_code": 2,
        "failure": Failure(code="bad", message="b"),
    }
    assert ends(record) == ["end_retraining"]
    assert ends(record, report=None, **failed) == ["end_retraining"]
    assert ends(record, status="Stopped", secondary_status="Stopped") == ["end_retraining"]
    refused = decide(open_job(job(retraining="rule-1/3"), NOW).job, Refused(error=JobError(code="x", message="x")), NOW)
    assert refused is not None
    assert EndRetraining() in refused.commands
    cancelled = decide(open_job(job(retraining="rule-1/3"), NOW).job, CancelRequested(), NOW)
    assert cancelled is not None
    assert EndRetraining() in cancelled.commands


def test_a_retraining_is_told_again_of_what_outlived_its_job_and_was_billed() -> None:
    opened = open_prepared(job(retraining="rule-1/3"), prepared(), NOW).job
    record = after(opened, CancelRequested(), AttemptRefused(name=FIRST, reason="cancelled", message="x"))
    assert record.state == "cancelled"
    lives = decide(record, observed(), NOW)
    assert lives is not None
    assert EndRetraining() not in lives.commands
    ended = decide(lives.job, observed(status="Stopped", secondary_status="Stopped", billable_seconds=60), NOW)
    assert ended is not None
    assert ended.job.billed > 0
    assert EndRetraining() in ended.commands


def test_a_job_of_a_group_says_what_it_starts_from_and_competes_with() -> None:
    def said(**changes: object) -> str:
        asked = request(registry={"group": "triage", **changes.pop("registry", {})})  # type: ignore[dict-item]
        return " ".join(line.message for line in open_prepared(job(request=asked, **changes), prepared(), NOW).log)

    assert "Group triage has no champion yet." in said()
    assert "Training starts from the base model." in said(registry={"start_from": "champion"})
    assert "is compared with ft:tiny:triage:old, the champion of group triage" in said(champion=champion())
    assert "Training goes on from ft:tiny:triage:old" in said(champion=champion(start=True))
    assert "cannot be measured here: it is elsewhere. The gate will hold" in said(
        champion=champion(obstacle="it is elsewhere")
    )


def test_an_interruption_is_not_an_end(running: JobRecord) -> None:
    interrupted = after(running, observed(secondary_status="Interrupted", interruptions=1))
    assert interrupted.state == "interrupted"
    resumed = after(interrupted, observed(interruptions=1))
    assert resumed.state == "running"
    assert len(resumed.attempts) == 1


def test_a_description_from_before_the_interruption_changes_nothing(running: JobRecord) -> None:
    interrupted = after(running, observed(secondary_status="Interrupted", interruptions=1))
    assert decide(interrupted, observed(), NOW) is None


def test_a_restart_by_sagemaker_itself_is_shown_and_what_was_seen_before_it_is_dropped(running: JobRecord) -> None:
    restarted = after(running, observed(secondary_status="Starting", restarts=1))
    assert (restarted.state, restarted.attempts[0].secondary_status) == ("interrupted", "Starting")
    assert decide(restarted, observed(), NOW) is None
    again = after(restarted, observed(restarts=1))
    assert again.state == "running"
    assert decide(again, observed(secondary_status="Downloading", restarts=1), NOW) is None


def test_no_capacity_climbs_to_the_on_demand_rung(running: JobRecord) -> None:
    climbed = after(running, observed(status="Stopped", secondary_status="MaxWaitTimeExceeded"))
    assert climbed.state == "queued"
    assert climbed.attempts[1].market == "on_demand"
    assert climbed.attempts[0].outcome == "stopped_max_wait"


def test_what_sagemaker_selected_is_what_is_billed(running: JobRecord) -> None:
    climbed = after(running, observed(status="Stopped", secondary_status="MaxWaitTimeExceeded"))
    assert climbed.attempts[1].reserved >= ON_DEMAND_PRICE
    final = {"status": "Completed", "secondary_status": "Completed", "report": report(), "billable_seconds": 3600}
    done = after(climbed, AttemptAccepted(name=SECOND), observed(SECOND, instance_type="ml.g5.xlarge", **final))
    assert done.billed == ON_DEMAND_PRICE // 2


def test_impatience_stops_a_waiting_attempt_and_climbs(queued: JobRecord) -> None:
    starting = after(queued, AttemptAccepted(name=FIRST))
    assert decide(starting, RungDue(), NOW + 100) is None
    asked = decide(starting, RungDue(), NOW + 1801)
    assert asked is not None
    assert asked.commands == (StopAttempt(name=FIRST),)
    climbed = after(asked.job, observed(status="Stopped", secondary_status="Stopped"))
    assert climbed.rung == 1
    assert climbed.state == "queued"


def test_quota_waits_visibly_and_uses_up_nothing(queued: JobRecord) -> None:
    waiting = after(queued, NO_QUOTA)
    assert (waiting.state, waiting.line) == ("queued", SPOT_LINE)
    assert waiting.waiting_for == SPOT_LINE
    assert (waiting.reserved, held_places(waiting)) == (0, {})
    for turn in range(1, 50):
        waiting = after(after(waiting, TurnCame(), now=NOW + 10 * turn), NO_QUOTA)
    assert [attempt.name for attempt in waiting.attempts] == [FIRST]
    assert waiting.event_seq == queued.event_seq + 1
    assert waiting.in_line_since == NOW, "who is refused again keeps his place"
    started = after(waiting, TurnCame(), AttemptAccepted(name=FIRST), now=NOW + 600)
    assert (started.state, started.waiting_for, started.line) == ("starting", "", "")
    assert (started.in_line_since, started.refused_at) == (None, None)


def test_an_order_takes_places_and_the_end_gives_them_back(queued: JobRecord) -> None:
    assert held_places(queued) == {"jobs": 1, "jobs of acme": 1, SPOT_LINE: 1}
    ended = decide(queued, observed(status="Stopped", secondary_status="Stopped"), NOW)
    assert ended is not None
    assert {change.line: change.held for change in ended.lines} == {"jobs": -1, "jobs of acme": -1, SPOT_LINE: -1}


def test_the_next_rung_keeps_the_places_among_jobs_and_leaves_that_of_its_type(queued: JobRecord) -> None:
    climbed = decide(queued, AttemptRefused(name=FIRST, reason="capacity", message="none"), NOW)
    assert climbed is not None
    assert {change.line: change.held for change in climbed.lines} == {SPOT_LINE: -1}


@pytest.mark.parametrize("line", ["jobs", "jobs of acme", SPOT_LINE])
def test_a_job_whose_line_is_full_stands_in_it_and_reserves_nothing(line: str) -> None:
    decision = open_prepared(job(), prepared(), NOW, full_line=line)
    waiting = decision.job
    assert (waiting.state, waiting.line, waiting.attempts) == ("queued", line, ())
    assert decision.ledger == LedgerChange()
    assert [command.kind for command in decision.commands] == ["notify"]
    assert decision.lines == (LineChange(line=line, waiting=1),)
    assert waiting.waiting_for
    called = decide(waiting, TurnCame(), NOW + 60)
    assert called is not None
    assert called.commands == (StartAttempt(number=1),)
    moved = {change.line: (change.held, change.waiting) for change in called.lines}
    assert moved == {name: (1, -1 if name == line else 0) for name in ("jobs", "jobs of acme", SPOT_LINE)}
    assert all(change.in_turn for change in called.lines)


def test_a_job_that_is_called_and_finds_no_place_stays_where_it_stands() -> None:
    waiting = open_prepared(job(), prepared(), NOW, full_line="jobs").job
    assert decide(waiting, TurnCame(), NOW + 60, full_line="jobs") is None
    moved = decide(waiting, TurnCame(), NOW + 60, full_line=SPOT_LINE)
    assert moved is not None
    assert moved.job.line == SPOT_LINE
    assert moved.job.in_line_since == NOW
    assert {change.line: change.waiting for change in moved.lines} == {"jobs": -1, SPOT_LINE: 1}


def test_quota_is_waited_for_no_longer_than_capacity_would_be(queued: JobRecord) -> None:
    waiting = after(queued, NO_QUOTA)
    assert decide(waiting, RungDue(), NOW + 1799) is None
    climbed = after(waiting, RungDue(), now=NOW + 1801)
    assert (climbed.rung, climbed.line) == (1, "")
    assert climbed.attempts[-1].market == "on_demand"


def test_quota_that_is_missing_on_the_last_rung_is_waited_for_on_the_first(queued: JobRecord) -> None:
    last = after(queued, NO_QUOTA, now=NOW)
    last = after(last, RungDue(), now=NOW + 1801)
    waiting = after(last, NO_QUOTA, now=NOW + 1900)
    assert (waiting.rung, waiting.line) == (0, SPOT_LINE)


def test_who_stands_in_line_leaves_it_by_a_cancel_or_a_pause() -> None:
    waiting = open_prepared(job(), prepared(), NOW, full_line="jobs").job
    for event, state in ((CancelRequested(), "cancelled"), (PauseRequested(), "paused")):
        decision = decide(waiting, event, NOW + 1)
        assert decision is not None
        assert (decision.job.state, decision.job.line) == (state, "")
        assert decision.lines == (LineChange(line="jobs", waiting=-1),)
        assert decide(decision.job, TurnCame(), NOW + 2) is None


def test_a_turn_that_comes_after_the_deadline_fails_the_job() -> None:
    waiting = open_prepared(job(deadline=NOW + 3600), prepared(), NOW, full_line="jobs").job
    late = after(waiting, TurnCame(), now=NOW + 3500)
    assert late.error is not None
    assert (late.state, late.error.code, late.line) == ("failed", "deadline_missed", "")


def test_a_missing_permission_fails_with_its_remedy(queued: JobRecord) -> None:
    failed = after(queued, AttemptRefused(name=FIRST, reason="not_permitted", message="AccessDenied"))
    assert failed.error is not None
    assert (failed.state, failed.error.code) == ("failed", "permission_missing")
    assert failed.reserved == 0


def test_a_fault_of_the_users_is_not_tried_again(running: JobRecord) -> None:
    failed = after(
        running,
        observed(
            status="Failed",
            secondary_status="Failed",
            billable_seconds=60,
            exit_code=2,
            failure=Failure(code="loss_nan", message="Loss is NaN.", remedy="Lower the learning rate."),
        ),
    )
    assert failed.error is not None
    assert (failed.state, failed.error.code) == ("failed", "loss_nan")
    assert failed.billed > 0


def test_internal_failures_are_tried_again_twice_and_no_more(running: JobRecord) -> None:
    record = running
    for number in (1, 2, 3):
        name = f"ftjob-abc-{number}"
        if not record.attempts[-1].accepted:
            record = after(record, AttemptAccepted(name=name))
        record = after(record, observed(name, status="Failed", secondary_status="Failed", failure_reason="boom"))
    assert record.state == "failed"
    assert len(record.attempts) == 3


def test_money_spent_shortens_what_later_attempts_may_run(running: JobRecord) -> None:
    again = after(
        running,
        observed(status="Failed", secondary_status="Failed", billable_seconds=14_400, failure_reason="boom"),
    )
    first, second = again.attempts
    assert again.billed == 4 * MICRO
    assert second.max_runtime < first.max_runtime
    assert again.billed + again.reserved <= again.cap


def test_cancel_before_launch_ends_when_the_launch_finds_it(queued: JobRecord) -> None:
    asked = decide(queued, CancelRequested(), NOW)
    assert asked is not None
    assert asked.commands == ()
    ended = after(asked.job, AttemptRefused(name=FIRST, reason="cancelled", message=""))
    assert (ended.state, ended.reserved, ended.billed) == ("cancelled", 0, 0)


def test_a_training_job_created_after_its_job_was_cancelled_is_stopped(queued: JobRecord) -> None:
    ended = after(queued, CancelRequested(), AttemptRefused(name=FIRST, reason="cancelled", message=""))
    late = decide(ended, AttemptAccepted(name=FIRST), NOW)
    assert late is not None
    assert late.commands == (StopAttempt(name=FIRST),)
    assert late.job.state == "cancelled"
    billed = after(late.job, observed(status="Stopped", secondary_status="Stopped", billable_seconds=9))
    assert billed.billed == ON_DEMAND_PRICE * 9 // 3600


def test_cancel_while_running_stops_once_and_ends_when_stopped(running: JobRecord) -> None:
    asked = decide(running, CancelRequested(), NOW)
    assert asked is not None
    assert asked.commands == (StopAttempt(name=FIRST),)
    assert decide(asked.job, CancelRequested(), NOW) is None
    ended = after(asked.job, observed(status="Stopped", secondary_status="Stopped", billable_seconds=60))
    assert (ended.state, ended.reserved) == ("cancelled", 0)


def test_a_completion_that_races_with_a_cancel_is_kept(running: JobRecord) -> None:
    asked = after(running, CancelRequested())
    done = after(asked, observed(status="Completed", secondary_status="Completed", report=report()))
    assert done.state == "succeeded"


def test_a_paused_job_goes_on_with_a_new_attempt_on_the_same_rung(running: JobRecord) -> None:
    paused = after(running, PauseRequested(), observed(status="Stopped", secondary_status="Stopped"))
    assert (paused.state, paused.reserved) == ("paused", 0)
    resumed = after(paused, ResumeRequested())
    assert (resumed.state, resumed.attempts[1].rung) == ("queued", 0)


def test_a_pause_before_acceptance_stops_the_attempt_once_it_is_accepted(queued: JobRecord) -> None:
    asked = after(queued, PauseRequested())
    accepted = decide(asked, AttemptAccepted(name=FIRST), NOW)
    assert accepted is not None
    assert accepted.commands == (StopAttempt(name=FIRST),)


def test_without_funds_an_attempts_end_is_still_settled(running: JobRecord) -> None:
    final = observed(status="Stopped", secondary_status="MaxWaitTimeExceeded", billable_seconds=30)
    decision = decide(running, final, NOW, no_funds="the limit is reached")
    assert decision is not None
    failed = decision.job
    assert failed.error is not None
    assert (failed.state, failed.error.code) == ("failed", "monthly_limit_reached")
    assert (failed.reserved, failed.billed) == (0, -(-ON_DEMAND_PRICE * 30 // 3600))


def test_without_funds_a_paused_job_stays_paused(running: JobRecord) -> None:
    paused = after(running, PauseRequested(), observed(status="Stopped", secondary_status="Stopped"))
    assert decide(paused, ResumeRequested(), NOW, no_funds="the limit is reached") is None


def test_without_funds_a_waiting_job_waits_for_them(queued: JobRecord) -> None:
    waiting = after(queued, NO_QUOTA)
    decision = decide(waiting, TurnCame(), NOW + 600, no_funds="the limit is reached")
    assert decision is not None
    assert (decision.job.state, decision.job.waiting_for) == ("queued", "the limit is reached")
    assert decision.job.line == ""
    assert decide(decision.job, RungDue(), NOW + 1200, no_funds="the limit is reached") is None


@pytest.mark.parametrize("reason", ["quota", "capacity", "cancelled"])
def test_a_cancel_while_the_launch_is_refused_is_kept(queued: JobRecord, reason: str) -> None:
    ended = after(queued, CancelRequested(), AttemptRefused(name=FIRST, reason=reason, message=""))
    assert (ended.state, ended.reserved) == ("cancelled", 0)


@pytest.mark.parametrize("reason", ["quota", "capacity", "cancelled"])
def test_a_pause_while_the_launch_is_refused_is_kept(queued: JobRecord, reason: str) -> None:
    paused = after(queued, PauseRequested(), AttemptRefused(name=FIRST, reason=reason, message=""))
    assert (paused.state, paused.reserved) == ("paused", 0)
    assert decide(paused, RungDue(), NOW + 9999) is None


def test_a_pause_outranks_an_impatient_stop(queued: JobRecord) -> None:
    impatient = after(after(queued, AttemptAccepted(name=FIRST)), RungDue(), now=NOW + 1801)
    paused = after(impatient, PauseRequested(), observed(status="Stopped", secondary_status="Stopped"))
    assert (paused.state, len(paused.attempts)) == ("paused", 1)


@pytest.mark.parametrize("asked", [PauseRequested(), None])
def test_a_fault_of_the_users_outranks_why_we_stopped(queued: JobRecord, asked: Event | None) -> None:
    starting = after(queued, AttemptAccepted(name=FIRST))
    stopping = after(starting, asked) if asked else after(starting, RungDue(), now=NOW + 1801)
    fault = Failure(code="loss_nan", message="Loss is NaN.")
    failed = after(stopping, observed(status="Failed", secondary_status="Failed", exit_code=2, failure=fault))
    assert failed.error is not None
    assert (failed.state, failed.error.code) == ("failed", "loss_nan")


@pytest.mark.parametrize("status", ["Completed", "Failed", "Stopped"])
def test_a_final_description_that_comes_twice_settles_once(running: JobRecord, status: str) -> None:
    final = observed(status=status, secondary_status=status, billable_seconds=500, report=report())
    ended = after(running, final)
    assert decide(ended, final, NOW) is None


def test_events_of_unknown_attempts_change_nothing(running: JobRecord) -> None:
    assert decide(running, observed(SECOND), NOW) is None
    assert decide(running, AttemptAccepted(name=SECOND), NOW) is None


HOUR = 3600.0


def under_a_deadline(hours: float) -> JobRecord:
    """A spot job of an hour's work on demand, which may take an hour beyond; its on-demand rung is the last one."""
    fallback = Fallback(by=NOW + (hours - 2) * HOUR, work=3600, beyond=3600)
    made = prepared(plan=plan(fallback=fallback))
    opened = open_prepared(job(deadline=NOW + hours * HOUR), made, NOW).job
    return after(opened, AttemptAccepted(name=FIRST))


def test_a_job_waits_and_begins_anew_where_no_rung_has_capacity(queued: JobRecord) -> None:
    on_demand = after(queued, AttemptRefused(name=FIRST, reason="capacity", message="none"))
    assert on_demand.attempt is not None
    assert on_demand.attempt.market == "on_demand"
    failed = {"status": "Failed", "secondary_status": "Failed", "failure_reason": "CapacityError: none"}
    waiting = after(on_demand, AttemptAccepted(name=FIRST), observed(FIRST, **failed))
    assert (waiting.state, waiting.error) == ("queued", None)
    assert waiting.waiting_for == "capacity of ml.g5.xlarge or ml.g6.xlarge"
    assert waiting.reserved == 0
    again = after(waiting, RungDue(), now=NOW + HOUR)
    assert again.attempt is not None
    assert (again.rung, again.attempt.market, again.attempt.name) == (0, "spot", SECOND)


def test_a_wait_without_capacity_ends_with_the_deadline() -> None:
    on_demand = after(
        under_a_deadline(3), observed(status="Failed", secondary_status="Failed", failure_reason="CapacityError")
    )
    assert on_demand.rung == 1
    failed = observed(SECOND, status="Failed", secondary_status="Failed", failure_reason="CapacityError")
    waiting = after(on_demand, AttemptAccepted(name=SECOND), failed, now=NOW + HOUR)
    late = after(waiting, RungDue(), now=NOW + 3 * HOUR)
    assert late.state == "failed"
    assert late.error is not None
    assert late.error.code == "deadline_missed"


def test_an_interrupted_job_leaves_spot_while_on_demand_still_meets_the_deadline() -> None:
    running = after(under_a_deadline(4), observed(training_seconds=60))
    away = after(running, observed(secondary_status="Pending", interruptions=1, training_seconds=60), now=NOW + HOUR)
    assert away.state == "interrupted"
    assert decide(away, RungDue(), NOW + 1.7 * HOUR) is None
    leaving = decide(away, RungDue(), NOW + 1.9 * HOUR)
    assert leaving is not None
    assert leaving.commands == (StopAttempt(name=FIRST),)
    stopped = observed(status="Stopped", secondary_status="Stopped", interruptions=1, training_seconds=60)
    climbed = after(leaving.job, stopped, now=NOW + 2 * HOUR)
    assert climbed.attempt is not None
    assert climbed.attempt.market == "on_demand"


def test_work_that_is_done_lets_a_job_wait_longer_for_spot() -> None:
    worked = {"interruptions": 1, "training_seconds": 3000}
    away = after(under_a_deadline(4), observed(), observed(secondary_status="Pending", **worked), now=NOW + HOUR)
    assert decide(away, RungDue(), NOW + 1.9 * HOUR) is None
    assert decide(away, RungDue(), NOW + 2.9 * HOUR) is not None


def test_a_job_that_has_its_instance_is_never_moved_from_spot() -> None:
    loading = after(under_a_deadline(4), observed(secondary_status="Downloading"), now=NOW + HOUR)
    assert decide(loading, RungDue(), NOW + 3.5 * HOUR) is None


def test_a_training_job_that_was_given_up_and_lives_keeps_its_money_and_the_next_attempt_waits(
    queued: JobRecord,
) -> None:
    given_up = after(queued, AttemptRefused(name=FIRST, reason="quota", message="none"), PauseRequested())
    assert given_up.reserved == 0
    found = decide(given_up, AttemptAccepted(name=FIRST), NOW)
    assert found is not None
    assert found.commands == (StopAttempt(name=FIRST),)
    assert found.job.reserved == found.ledger.reserve == queued.reserved
    waiting = after(found.job, ResumeRequested())
    assert waiting.waiting_for == f"training job {FIRST} to end"
    assert decide(waiting, RungDue(), NOW) is None or after(waiting, RungDue()).attempts == waiting.attempts
    ended = after(waiting, observed(status="Stopped", secondary_status="Stopped", billable_seconds=60))
    assert ended.reserved == 0
    assert ended.billed > 0
    again = after(ended, RungDue())
    assert again.attempt is not None
    assert again.attempt.name == SECOND


def test_a_job_that_has_ended_stays_open_while_its_training_job_lives(queued: JobRecord) -> None:
    cancelled = after(queued, AttemptRefused(name=FIRST, reason="quota", message="none"), CancelRequested())
    assert not cancelled.open
    found = after(cancelled, AttemptAccepted(name=FIRST))
    assert (found.state, found.open) == ("cancelled", True)
    stopped = observed(status="Stopped", secondary_status="Stopped", training_seconds=90, billable_seconds=60)
    closed = decide(found, stopped, NOW)
    assert closed is not None
    assert (closed.job.open, closed.job.reserved) == (False, 0)
    assert closed.run is not None
    assert closed.run.actual.cost == closed.job.billed > 0


def test_a_name_that_sagemaker_never_took_is_used_again_after_a_pause(queued: JobRecord) -> None:
    """Else a request that comes through late would run, and be billed, beside the next attempt."""
    paused = after(queued, PauseRequested(), AttemptRefused(name=FIRST, reason="cancelled", message=""))
    resumed = after(paused, ResumeRequested())
    assert [attempt.name for attempt in resumed.attempts] == [FIRST]
    assert resumed.waiting_for == ""
    late = after(resumed, observed(status="Completed", secondary_status="Completed", report=report()))
    assert (late.state, late.reserved) == ("succeeded", 0)


def test_a_late_refusal_of_an_earlier_order_does_not_end_the_next_one(queued: JobRecord) -> None:
    """Two deliveries read an attempt that is to be paused; one speaks after the job was resumed under the same name."""
    stale = AttemptRefused(name=FIRST, reason="cancelled", message="", ordered_at=NOW)
    resumed = after(after(queued, PauseRequested(), stale), ResumeRequested(), now=NOW + 60)
    assert decide(resumed, stale, NOW + 61) is None
    assert decide(resumed, stale.with_(reason="invalid"), NOW + 61) is None


def test_who_pauses_in_line_steps_in_behind_on_resuming() -> None:
    waiting = open_prepared(job(), prepared(), NOW, full_line="jobs").job
    paused = after(waiting, PauseRequested(), now=NOW + 5)
    resumed = decide(paused, ResumeRequested(), NOW + 900, full_line="jobs")
    assert resumed is not None
    assert resumed.job.in_line_since == NOW + 900


@pytest.mark.parametrize(("late", "price"), [("ml.dear", 3_000_000), ("ml.cheap", 200_000)])
def test_a_late_request_of_an_earlier_rung_is_billed_at_what_it_runs_on(late: str, price: int) -> None:
    first, last = plan().rungs
    first = first.with_(instance_types=(late,), prices=(price,), on_demand_prices=(price,))
    opened = open_prepared(job(), prepared(plan=plan(rungs=(first, last))), NOW).job
    climbed = after(opened, AttemptRefused(name=FIRST, reason="capacity", message="none"))
    assert (climbed.rung, climbed.attempts[-1].name) == (1, FIRST)
    longest = opened.attempts[0].max_runtime + STOP_LATENCY
    done = {"status": "Completed", "secondary_status": "Completed", "report": report(), "billable_seconds": longest}
    ended = after(climbed, observed(instance_type=late, **done))
    assert ended.billed == -(-price * longest // 3600)
    assert ended.billed <= ended.cap
