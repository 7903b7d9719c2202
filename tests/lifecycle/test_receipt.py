from hypothesis import given
from hypothesis import strategies as st

from spotune.contracts.money import warning_level
from spotune.lifecycle import decide, receipt
from tests.factories import NOW, ON_DEMAND_PRICE, observed
from tests.factories import report as made_report
from tests.lifecycle.test_finished import ended, running


def test_a_receipt_has_what_was_billed_lost_and_saved():
    made = receipt(ended().job)
    assert (made.attempts, made.interruptions) == (1, 1)
    assert (made.training_seconds, made.billable_seconds) == (3600, 1440)
    assert made.work_lost_seconds == 36
    assert made.billed == ON_DEMAND_PRICE * 1440 // 3600
    assert made.on_demand == ON_DEMAND_PRICE
    assert made.saved == made.on_demand - made.billed
    assert made.forecast.mid == 200_000
    assert made.decision == "promote"


def test_a_job_that_runs_has_no_receipt():
    assert receipt(running()) is None


def test_a_job_says_once_that_a_share_of_its_cap_is_billed():
    seconds = {"training_seconds": 3600, "billable_seconds": 3600}
    failed = observed(status="Failed", secondary_status="Failed", failure_reason="InternalServerError", **seconds)
    first = decide(running(cap=ON_DEMAND_PRICE * 2), failed, NOW + 3600)
    warned = [line.message for line in first.log if "of the" in line.message and line.level == "warn"]
    assert warned == ["$1.00 of the $2.00 cap are billed: 50 % or more."]
    again = observed("ftjob-abc-2", status="Completed", secondary_status="Completed", report=made_report())
    second = decide(first.job, again.with_(training_seconds=60, billable_seconds=60), NOW + 7200)
    assert not [line for line in second.log if "cap are billed" in line.message]


@given(billed=st.integers(0, 10**9), more=st.integers(0, 10**9), limit=st.integers(1, 10**9))
def test_a_warning_never_becomes_milder(billed, more, limit):
    assert warning_level(billed, limit) <= warning_level(billed + more, limit)
    assert (warning_level(billed, limit) == 100) == (billed >= limit)
