import math

from hypothesis import given
from hypothesis import strategies as st

from spotune.contracts.deadlines import last_safe_moment, patience
from spotune.planner.spot_policy import Moment, SpotRule, decide

SECONDS = st.floats(0, 1e6)
RULE = SpotRule(start=600, fallback=600, loss=0, spot_share=0.35)
HOUR = 3600


def moment(*, work=4.0, time_left=8.0, place="nowhere", starting=False, spot=False):
    return Moment(work * HOUR, time_left * HOUR, place, starting, spot)


@given(work=SECONDS, more=SECONDS, deadline=SECONDS, fallback=SECONDS)
def test_more_work_never_makes_the_last_safe_moment_later(work, more, deadline, fallback):
    assert last_safe_moment(work + more, deadline, fallback) <= last_safe_moment(work, deadline, fallback)


@given(work=SECONDS, more=SECONDS, time_left=SECONDS, fallback=SECONDS)
def test_patience_shrinks_with_work_and_grows_with_time(work, more, time_left, fallback):
    assert patience(work + more, time_left, fallback) <= patience(work, time_left, fallback)
    assert patience(work, time_left + more, fallback) >= patience(work, time_left, fallback)


@given(work=SECONDS, time_left=SECONDS, fallback=SECONDS)
def test_patience_ends_by_the_last_safe_moment(work, time_left, fallback):
    assert patience(work, time_left, fallback) <= max(last_safe_moment(work, time_left, fallback), 0)


def test_a_job_takes_spot_when_it_is_there():
    assert decide(RULE, moment(spot=True), 300) == "spot"


def test_a_job_waits_while_it_has_more_than_its_reserve_and_then_goes_on_demand():
    reserve = 4 * 1.2 + 1 / 6
    assert decide(RULE, moment(time_left=reserve + 0.1), 300) == "nowhere"
    assert decide(RULE, moment(time_left=reserve + 0.05), 300) == "on_demand"


def test_a_job_without_a_deadline_waits_for_spot():
    assert decide(RULE, moment(time_left=math.inf), 300) == "nowhere"


def test_a_job_leaves_on_demand_for_spot_while_it_could_come_back():
    enough = 4.34
    assert decide(RULE, moment(place="on_demand", spot=True, time_left=enough), 300) == "spot"
    assert decide(RULE, moment(place="on_demand", spot=True, time_left=enough - 0.01), 300) == "on_demand"


def test_a_job_stays_on_demand_where_spot_would_not_pay_for_its_own_start():
    assert decide(RULE, moment(place="on_demand", spot=True, work=0.05), 300) == "on_demand"
    dear = SpotRule(start=600, fallback=600, loss=0, spot_share=1.0)
    assert decide(dear, moment(place="on_demand", spot=True), 300) == "on_demand"


def test_a_job_does_not_leave_on_demand_before_it_has_started():
    assert decide(RULE, moment(place="on_demand", starting=True, spot=True), 300) == "on_demand"


def test_a_job_stays_on_a_spot_instance_beyond_the_last_safe_moment():
    assert decide(RULE, moment(place="spot", spot=True, time_left=4.1), 300) == "spot"


def test_the_on_demand_queue_counts():
    queued = SpotRule(start=600, fallback=600 + HOUR, loss=0, spot_share=0.35)
    late = moment(time_left=5.2, spot=True)
    assert decide(RULE, late, 300) == "spot"
    assert decide(queued, late, 300) == "on_demand"
