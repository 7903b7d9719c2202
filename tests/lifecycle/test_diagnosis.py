from itertools import pairwise

import pytest

from spotune.contracts.dataset import Fault
from spotune.contracts.events import AttemptRefused
from spotune.contracts.job import JobError
from spotune.contracts.scores import Scores
from spotune.lifecycle import decide, diagnose, open_prepared
from tests.factories import NOW, config, dataset, job, observed, plan, prepared, report, request
from tests.lifecycle.test_finished import running


def failed(code, **changes):
    return running().with_(
        state="failed", error=JobError(code=code, message="It failed.", remedy="Mend it."), **changes
    )


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("permission_missing", "missing_permission"),
        ("capacity", "capacity"),
        ("loss_not_finite", "loss_not_finite"),
        ("no_trainable_rows", "no_loss_mask"),
        ("checkpoint_of_another_config", "checkpoint_invalid"),
        ("model_unreadable", "model_unavailable"),
        ("deadline_missed", "time_ran_out"),
        ("budget_exhausted", "money_ran_out"),
        ("training_job_invalid", "internal"),
        ("adapter_rank_odd", "settings_invalid"),
    ],
)
def test_an_error_has_its_cause_and_keeps_its_words(code, cause):
    seen = diagnose(failed(code), None, NOW)
    assert seen.cause == cause
    assert seen.evidence[0] == f"{code}: It failed."
    assert seen.remedy.startswith("Mend it.")
    assert seen.command


def test_out_of_memory_has_the_forecast_and_the_nearest_card_that_is_larger():
    chosen = plan().chosen
    larger = chosen.with_(instance_type="ml.g6e.xlarge", gpu="L40S", memory=chosen.memory.with_(usable=48))
    seen = diagnose(failed("out_of_memory", plan=plan(alternatives=(chosen, larger))), None, NOW)
    assert seen.cause == "out_of_memory"
    assert any(words.startswith("Forecast:") for words in seen.evidence)
    assert "ml.g6e.xlarge (L40S)" in seen.remedy
    assert seen.command == "spotune retry ftjob-abc --set constraints.instance_types='[\"ml.g6e.xlarge\"]'"


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("out_of_memory", "training.max_sequence_length=128"),
        ("budget_exhausted", "constraints.budget_usd=10"),
        ("time_or_money_ran_out", "constraints.budget_usd=10"),
        ("deadline_missed", "constraints.finish_within_hours=8"),
        ("capacity_wait_over", "constraints.market=on_demand"),
        ("loss_not_finite", "training.learning_rate=0.0005"),
    ],
)
def test_where_a_changed_setting_mends_it_the_command_is_a_retry_with_that(code, change):
    asked = request(constraints={"finish_within_hours": 4})
    assert diagnose(failed(code, request=asked), None, NOW).command == f"spotune retry ftjob-abc --set {change}"


@pytest.mark.parametrize("code", ["permission_missing", "checkpoint_gone", "monthly_limit_reached"])
def test_what_was_mended_elsewhere_is_retried_as_it_was(code):
    assert diagnose(failed(code), None, NOW).command == "spotune retry ftjob-abc"


def test_bad_rows_are_named_by_line():
    fault = Fault(line=7, field="messages", rule="no_user", message="No user turn.", remedy="Add one.")
    seen = diagnose(failed("no_user", training=dataset(faults=(fault,), fault_count=1)), None, NOW)
    assert seen.cause == "bad_data"
    assert any("line 7, messages: No user turn." in words for words in seen.evidence)


def test_money_that_interruptions_ate_is_laid_to_them():
    often = tuple(one.with_(interruptions=6) for one in running().attempts)
    assert diagnose(failed("budget_exhausted", attempts=often), None, NOW).cause == "interrupted_too_often"
    assert diagnose(failed("budget_exhausted"), None, NOW).cause == "money_ran_out"


def test_a_job_in_line_says_so_before_it_had_any_attempt():
    seen = diagnose(open_prepared(job(), prepared(), NOW, full_line="jobs of acme").job, None, NOW + 90)
    assert (seen.cause, "90 s" in seen.evidence[0]) == ("in_line", True)
    line = "quota of ml.g5.xlarge (spot)"
    short = diagnose(open_prepared(job(), prepared(), NOW, full_line=line).job, None, NOW + 90)
    assert short.cause == "quota"
    assert "ml.g5.xlarge for spot training job usage" in short.message


def test_a_wait_for_quota_names_the_quota_to_ask_for():
    opened = decide(job(), prepared(), NOW).job
    waiting = decide(opened, AttemptRefused(name="ftjob-abc-1", reason="quota", message="0"), NOW).job
    seen = diagnose(waiting, None, NOW)
    assert seen.cause == "quota"
    assert "ml.g5.xlarge for spot training job usage" in seen.message
    assert "service-quotas" in seen.command


def test_an_interrupted_job_waits_for_capacity():
    away = decide(running(), observed(secondary_status="Interrupted", interruptions=1), NOW).job
    assert diagnose(away, None, NOW).cause == "capacity"


@pytest.mark.parametrize(("age", "cause"), [(300, "well"), (361, "sync_stalled")])
def test_a_checkpoint_older_than_three_intervals_is_a_stalled_sync(age, cause):
    started = tuple(one.with_(started_at=NOW - 10_000) for one in running().attempts)
    trained = running().with_(attempts=started, config=config())
    assert config().checkpoint.interval_seconds == 120
    assert diagnose(trained, NOW - age, NOW).cause == cause


def test_a_job_that_has_just_started_is_well_without_a_checkpoint():
    started = tuple(one.with_(started_at=NOW - 100) for one in running().attempts)
    assert diagnose(running().with_(attempts=started), None, NOW).cause == "well"


def test_every_state_has_a_diagnosis():
    causes = [diagnose(running().with_(state=state), None, NOW).cause for state in ("paused", "cancelled", "succeeded")]
    assert causes == ["paused", "cancelled", "well"]
    ended = diagnose(running().with_(state="succeeded"), None, NOW)
    assert ended.message == "Nothing is wrong: the job has succeeded."
    assert diagnose(running().with_(state="paused"), None, NOW).command == "spotune resume ftjob-abc"
    assert diagnose(running().with_(state="cancelled"), None, NOW).command == "spotune retry ftjob-abc"
    assert all(one != other for one, other in pairwise(causes))


def test_a_job_whose_gate_did_not_promote_its_model_says_which_condition_and_what_to_do():
    final = {"status": "Completed", "secondary_status": "Completed", "output_uri": "s3://o/"}
    worse = report(tuned=Scores(eval_loss=2.5, perplexity=12))
    rejected = diagnose(decide(running(), observed(report=worse, **final), NOW).job, None, NOW)
    assert rejected.cause == "gate_rejected"
    assert "better_than_base: 2.5000" in rejected.evidence[0]
    asked = running().request.with_(gate={"approval": True}, registry={"group": "triage"})
    held = diagnose(decide(running().with_(request=asked), observed(report=report(), **final), NOW).job, None, NOW)
    assert held.cause == "gate_held"
    assert held.evidence[0].startswith("approval: nobody has approved it yet")
    assert "group triage" in held.remedy
    assert held.command == "spotune models versions triage"
    assert diagnose(decide(running(), observed(report=report(), **final), NOW).job, None, NOW).cause == "well"
