import pytest

from spotune.contracts.checkpoint import Resumption
from spotune.contracts.commands import ReleaseCheckpoints
from spotune.contracts.events import AttemptAccepted, AttemptRefused, CancelRequested
from spotune.lifecycle import decide, finished_run
from tests.factories import NOW, ON_DEMAND_PRICE, job, observed, plan, prepared, report

MEASURED = {
    "tokens_seen": 9000,
    "train_seconds": 10.0,
    "lost_seconds": 36.0,
    "loading_seconds": 30.0,
    "elapsed_seconds": 3000.0,
}


def running(**changes):
    """A job whose first attempt runs."""
    opened = decide(job(**changes), prepared(), NOW).job
    return decide(opened, observed(), NOW + 60).job


def ended(status="Completed", **changes):
    seen = observed(
        status=status,
        secondary_status=status,
        training_seconds=3600,
        billable_seconds=1440,
        interruptions=1,
        report=report(**MEASURED) if status == "Completed" else None,
        **changes,
    )
    return decide(running(), seen, NOW + 7200)


def test_the_decision_that_ends_a_job_carries_its_forecast_and_outcome():
    run = ended().run
    assert run.completed
    assert run.forecast == plan().chosen
    assert run.actual.cost == 1440 * ON_DEMAND_PRICE // 3600
    assert run.actual.billed_hours == 1
    assert run.actual.wall_hours == 2
    assert run.actual.interruptions == 1
    assert run.actual.work_lost_hours == 0.01
    assert run.actual.tokens_per_second == 900
    assert run.actual.start_seconds == 600 / 2 + 30
    (stay,) = run.stays
    assert (stay.instance_type, stay.market) == ("ml.g5.xlarge", "spot")
    assert (stay.training_seconds, stay.interruptions) == (3600, 1)


def test_only_the_decision_that_ends_the_job_carries_a_run():
    opened = decide(job(), prepared(), NOW)
    assert opened.run is None
    moved = decide(opened.job, observed(), NOW)
    assert moved.run is None
    done = ended()
    late = decide(done.job, observed(name="ftjob-abc-1", status="Failed", secondary_status="Failed"), NOW + 9000)
    assert late is None or late.run is None


def test_a_job_that_never_had_an_instance_leaves_no_run():
    opened = decide(job(), prepared(), NOW).job
    cancelled = decide(opened, CancelRequested(), NOW + 10)
    assert finished_run(cancelled.job) is None


@pytest.mark.parametrize("status", ["Failed", "Stopped"])
def test_a_job_that_published_nothing_keeps_its_time_and_interruptions(status):
    done = ended(status)
    while not done.job.terminal:
        name = done.job.attempts[-1].name
        again = observed(name=name, status=status, secondary_status=status, training_seconds=60, billable_seconds=30)
        done = decide(done.job, again, NOW + 8000)
    assert not done.run.completed
    assert done.run.actual.tokens_per_second is None
    assert done.run.actual.device == ""
    assert done.run.stays[0].interruptions == 1
    assert done.run.actual.billed_hours == pytest.approx(sum(s.training_seconds for s in done.run.stays) / 3600)


def test_the_wall_time_of_a_paused_job_is_not_compared():
    run = ended().job
    paused = run.with_(attempts=tuple(one.with_(stop_asked="pause") for one in run.attempts))
    assert finished_run(paused).actual.wall_hours is None


def test_the_speed_and_memory_of_a_retry_that_went_on_are_not_compared():
    """Its report counts the earlier job's steps, which another machine may have taken."""
    run = ended().job
    fresh = run.with_(resumption=Resumption(job_id="ftjob-old", message="From the beginning."))
    assert finished_run(fresh).actual == finished_run(run).actual
    went_on = finished_run(fresh.with_(resumption=fresh.resumption.with_(step=4))).actual
    assert (went_on.tokens_per_second, went_on.peak_memory_bytes, went_on.work_lost_hours) == (None, None, None)
    assert went_on.cost == finished_run(run).actual.cost


def releases(decision):
    return [one for one in decision.commands if isinstance(one, ReleaseCheckpoints)]


def test_checkpoints_are_released_once_nothing_of_the_job_runs_any_more():
    done = ended()
    assert done.job.terminal
    assert len(releases(done)) == 1
    again = decide(done.job, observed(status="Completed", secondary_status="Completed"), NOW + 9000)
    assert again is None or not releases(again)


def test_checkpoints_of_a_job_that_ended_before_its_training_job_did_are_released_after_it():
    opened = decide(job(), prepared(), NOW).job
    cancelled = decide(opened, CancelRequested(), NOW + 10)
    refused = decide(cancelled.job, AttemptRefused(name="ftjob-abc-1", reason="cancelled", message=""), NOW + 20)
    assert refused.job.terminal
    assert not releases(refused), "nothing ever ran"
    created_after_all = decide(refused.job, AttemptAccepted(name="ftjob-abc-1"), NOW + 30)
    assert created_after_all.job.open
    assert not releases(created_after_all)
    stopped = observed(status="Stopped", secondary_status="Stopped")
    assert len(releases(decide(created_after_all.job, stopped, NOW + 90))) == 1


def test_a_job_that_tries_again_keeps_its_checkpoints():
    tried = ended("Failed")
    assert not tried.job.terminal
    assert not releases(tried)


def test_no_training_job_is_let_run_longer_than_the_installation_allows():
    short = prepared().with_(plan=plan(longest=3600))
    opened = decide(job(cap=10**12), short, NOW).job
    assert opened.attempts[0].max_runtime == 3600
    assert decide(job(cap=10**12), prepared(), NOW).job.attempts[0].max_runtime == 28 * 24 * 3600
