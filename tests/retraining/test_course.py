"""A retraining from its beginning to its end."""

from __future__ import annotations

import pytest

from spotune.contracts.rules import RuleRecord
from spotune.contracts.verdict import GateDecision
from spotune.retraining.course import Ending, begin, ended, prepared, submitted
from spotune.retraining.due import DAY
from spotune.retraining.template import job_request
from tests.factories import NOW
from tests.rules import arrival, rule, rule_request

CAP = 5_000_000


def pending(**changes: object) -> RuleRecord:
    values: dict[str, object] = {"sequence": 4, "claimed": 1, "pending_rows": 30, "pending_bytes": 3000, **changes}
    return rule(**values)


ARRIVALS = (
    arrival("2", state="accepted", sequence=2, rows=10),
    arrival("3", state="superseded", sequence=3, rows=10),
    arrival("4", state="accepted", sequence=4, rows=5),
)


def test_it_takes_all_that_is_pending() -> None:
    begun, made = begin(pending(), "rows", CAP, NOW)
    assert (made.after, made.through, made.number, made.state, made.cap) == (1, 4, 1, "preparing", CAP)
    assert (begun.claimed, begun.pending_rows, begun.pending_bytes, begun.live, begun.retrainings) == (4, 0, 0, 1, 1)
    assert (begun.month, begun.spent, begun.begun) == ("2026-09", CAP, (NOW,))


def test_it_keeps_the_rule_as_it_was() -> None:
    assert begin(pending(), "rows", CAP, NOW)[1].request == rule_request()


@pytest.mark.parametrize("changes", [{"live": 1}, {"deleted_at": NOW}])
def test_a_rule_that_may_not_fire_begins_none(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="may not fire"):
        begin(pending(**changes), "rows", CAP, NOW)


def test_only_the_beginnings_of_a_day_are_kept() -> None:
    begun, _ = begin(pending(begun=(NOW - DAY, NOW - DAY + 1)), "rows", CAP, NOW)
    assert begun.begun == (NOW - DAY + 1, NOW)


def test_time_does_not_go_back_within_a_rule() -> None:
    begun, made = begin(pending(begun=(NOW + 50,), month="2026-09", spent=7), "rows", CAP, NOW)
    assert (made.created_at, begun.begun[-1], begun.spent) == (NOW + 50, NOW + 50, CAP + 7)


def test_it_moves_on_once() -> None:
    _, made = begin(pending(), "rows", CAP, NOW)
    ready = prepared(made, "s3://manifest", 50, NOW + 1)
    assert (ready.manifest_uri, ready.rows, ready.state) == ("s3://manifest", 50, "preparing")
    assert prepared(ready, "s3://manifest", 50, NOW + 2) is ready
    sent = submitted(ready, "ftjob-1", NOW + 2)
    assert (sent.state, sent.job_id) == ("submitted", "ftjob-1")
    assert submitted(sent, "ftjob-2", NOW + 3) is prepared(sent, "s3://other", 1, NOW + 3) is sent


@pytest.mark.parametrize("state", ["failed", "refused", "cancelled", "planned"])
def test_one_that_left_no_model_gives_its_data_back(state: str) -> None:
    begun, made = begin(pending(), "rows", CAP, NOW)
    meanwhile = begun.with_(sequence=5, pending_rows=2, pending_bytes=1)
    after, over = ended(meanwhile, made, Ending(state, "why", billed=100), ARRIVALS, NOW + 9)  # type: ignore[arg-type]
    assert (after.claimed, after.pending_rows, after.pending_bytes, after.live) == (1, 17, 2001, None)
    assert (after.tried_through, after.counted_through, after.spent) == (4, 0, 100)
    assert (over.state, over.ended_at, over.billed, over.reason) == (state, NOW + 9, 100, "why")


@pytest.mark.parametrize("decision", ["promote", "hold", "reject"])
def test_the_data_of_one_that_left_a_model_is_not_new_again(decision: GateDecision) -> None:
    begun, made = begin(pending(), "rows", CAP, NOW)
    after, over = ended(begun, made, Ending("succeeded", "", decision, 100), ARRIVALS, NOW + 9)
    assert (after.claimed, after.pending_rows, after.tried_through, after.live) == (4, 0, 0, None)
    assert (over.decision, after.spent) == (decision, 100)


def test_a_second_end_changes_nothing() -> None:
    begun, made = begin(pending(), "rows", CAP, NOW)
    after, over = ended(begun, made, Ending("failed", "", billed=1), ARRIVALS, NOW + 9)
    assert ended(after, over, Ending("succeeded", "", "promote", 2), ARRIVALS, NOW + 10) == (after, over)


def test_what_ends_in_another_month_frees_nothing_of_that() -> None:
    begun, made = begin(pending(), "rows", CAP, NOW)
    later = begun.with_(month="2026-10", spent=3)
    after, _ = ended(later, made, Ending("failed", "", billed=1), ARRIVALS, NOW + 40 * DAY)
    assert (after.month, after.spent) == ("2026-10", 3)


def test_a_job_is_the_template_on_the_dataset_in_the_rule_s_group() -> None:
    request = job_request(rule_request(), "s3://data/training.jsonl", "s3://data/frozen.jsonl")
    assert (request.model, request.constraints.budget_usd, request.registry.group) == ("tiny", 5, "support")
    assert (request.training_file, request.validation_file) == ("s3://data/training.jsonl", "s3://data/frozen.jsonl")
    named = rule_request(job={"model": "tiny", "registry": {"group": "team", "start_from": "champion"}})
    assert job_request(named, "s3://a", "s3://b").registry == named.job.registry
