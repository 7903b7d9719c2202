import math

from hypothesis import given
from hypothesis import strategies as st

from spotune.planner.spot_policy import Moment, SpotRule, decide, last_safe_moment, patience

SECONDS = st.floats(0, 1e6)
RULES = st.builds(
    SpotRule,
    start=st.floats(0, 3600),
    fallback=st.floats(0, 7200),
    loss=st.floats(0, 1800),
    spot_share=st.floats(0.05, 1.5),
)
RULE = SpotRule(start=600, fallback=600, loss=0, spot_share=0.35)
HOUR = 3600


def moment(*, work=4.0, time_left=8.0, place="nowhere", starting=False, spot=False):
    return Moment(work * HOUR, time_left * HOUR, place, starting, spot)


@given(rule=RULES, work=SECONDS, more=SECONDS, deadline=SECONDS)
def test_more_work_never_makes_the_last_safe_moment_later(rule, work, more, deadline):
    assert last_safe_moment(rule, work + more, deadline) <= last_safe_moment(rule, work, deadline)


@given(rule=RULES, work=SECONDS, more=SECONDS, time_left=SECONDS)
def test_patience_shrinks_with_work_and_grows_with_time(rule, work, more, time_left):
    assert patience(rule, work + more, time_left) <= patience(rule, work, time_left)
    assert patience(rule, work, time_left + more) >= patience(rule, work, time_left)


@given(rule=RULES, work=SECONDS, time_left=SECONDS)
def test_patience_ends_by_the_last_safe_moment(rule, work, time_left):
    assert patience(rule, work, time_left) <= max(last_safe_moment(rule, work, time_left), 0)


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
