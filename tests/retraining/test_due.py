"""When a rule fires."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from spotune.contracts.rules import RuleRecord
from spotune.retraining.course import counted
from spotune.retraining.due import DAY, Count, Fire, Known, Wait, by_hand, due, noted
from tests.factories import NOW
from tests.rules import rule, rule_request

CAP = 5_000_000
NOBODY = Known()


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def pending(rows: int = 200, *, trigger: dict[str, object] | None = None, **changes: object) -> RuleRecord:
    """A rule with so many rows that have come long ago, counted exactly."""
    values: dict[str, object] = {
        "request": rule_request(trigger={"min_rows": 100} if trigger is None else trigger),
        "sequence": 4,
        "pending_rows": rows,
        "pending_bytes": rows * 10,
        "last_arrival_at": NOW - 10 * DAY,
        "counted_through": 4,
        "counted_rows": rows,
    }
    return rule(**{**values, **changes})


def asked(a_rule: RuleRecord, known: Known = NOBODY, now: float = NOW) -> Fire | Count | Wait:
    return due(a_rule, known, CAP, now)


def waits(answer: object, word: str, until: float | None = None) -> None:
    assert isinstance(answer, Wait)
    assert word in answer.reason
    assert answer.until == until


class TestThresholds:
    def test_enough_rows_fire(self) -> None:
        assert asked(pending(100)) == Fire("rows")
        waits(asked(pending(99)), "min_rows 100")

    def test_enough_bytes_fire(self) -> None:
        assert asked(pending(10, trigger={"min_bytes": 100})) == Fire("bytes")
        waits(asked(pending(9, trigger={"min_bytes": 100})), "min_bytes 100")

    def test_growth_is_measured_on_what_the_champion_knows(self) -> None:
        a_rule = pending(50, trigger={"min_growth": 0.5}, counted_against="ft:a")
        assert asked(a_rule, Known("ft:a", 100)) == Fire("growth")
        waits(asked(a_rule, Known("ft:a", 101)), "min_growth 0.5 of 101 rows")

    def test_without_a_champion_any_row_is_growth(self) -> None:
        assert asked(pending(1, trigger={"min_growth": 9.0})) == Fire("growth")

    def test_any_one_threshold_will_do(self) -> None:
        both = {"min_rows": 1000, "min_bytes": 50}
        assert asked(pending(5, trigger=both)) == Fire("bytes")
        waits(asked(pending(4, trigger=both)), "min_rows 1000 or min_bytes 50")

    def test_nothing_new_never_fires(self) -> None:
        waits(asked(pending(0)), "new data")
        waits(asked(pending(0, trigger={"min_growth": 0.1})), "new data")
        waits(asked(pending(200, counted_rows=0, trigger={"min_bytes": 1})), "0 rows are new")


class TestExactCount:
    def test_rows_are_counted_once_the_upper_bound_passes_and_nothing_else_is_in_the_way(self) -> None:
        assert asked(pending(200, counted_through=3)) == Count(4)
        waits(asked(pending(99, counted_through=3)), "min_rows")
        waits(asked(pending(200, counted_through=3, live=1)), "retraining 1")

    def test_a_count_that_is_below_waits_for_more_data(self) -> None:
        waits(asked(pending(200, counted_rows=99)), "99 rows are new")

    def test_a_count_against_another_champion_is_none(self) -> None:
        a_rule = counted(pending(200), Known("ft:a", 10), through=4, rows=150)
        assert asked(a_rule, Known("ft:a", 10)) == Fire("rows")
        assert asked(a_rule, Known("ft:b", 10)) == asked(a_rule) == Count(4)


class TestTime:
    def test_a_burst_is_let_to_end(self) -> None:
        a_rule = pending(200, last_arrival_at=NOW - 299)
        waits(asked(a_rule), "quiet_seconds", NOW + 1)
        assert asked(a_rule, now=NOW + 1) == Fire("rows")

    def test_the_next_begins_no_earlier_than_it_may(self) -> None:
        a_rule = pending(200, begun=(NOW - 3599,))
        waits(asked(a_rule), "min_interval_seconds", NOW + 1)
        assert asked(a_rule, now=NOW + 1) == Fire("rows")

    def test_no_more_begin_in_24_hours_than_may(self) -> None:
        begun = (NOW - DAY, NOW - DAY + 60, NOW - 40_000, NOW - 20_000, NOW - 10_000)
        waits(asked(pending(200, begun=begun)), "max_per_day", NOW + 60)
        assert asked(pending(200, begun=begun), now=NOW + 60) == Fire("rows")

    def test_a_clock_that_is_behind_begins_nothing(self) -> None:
        waits(asked(pending(200, begun=(NOW + 100,))), "min_interval_seconds", NOW + 3700)

    def test_one_lives_at_a_time(self) -> None:
        waits(asked(pending(200, live=7)), "retraining 7")

    def test_data_that_left_no_model_waits_for_more(self) -> None:
        waits(asked(pending(200, tried_through=4)), "more data")
        assert asked(pending(200, tried_through=4, sequence=5, counted_through=5)) == Fire("rows")

    def test_a_rule_that_is_off_waits(self) -> None:
        waits(asked(pending(200, request=rule_request(enabled=False))), "off")

    def test_a_deleted_rule_never_fires(self) -> None:
        waits(asked(pending(200, deleted_at=NOW)), "deleted")


class TestSchedule:
    NIGHT = {"schedule": "0 3 * * *"}

    def nightly(self, rows: int = 10, **changes: object) -> RuleRecord:
        made = {"created_at": at("2026-11-20 12:00"), "last_arrival_at": at("2026-11-20 13:00"), **changes}
        return pending(rows, **{"trigger": self.NIGHT, **made})

    def test_it_fires_at_its_moments_only(self) -> None:
        waits(asked(self.nightly(), now=at("2026-11-21 02:59")), "schedule", at("2026-11-21 03:00"))
        assert asked(self.nightly(), now=at("2026-11-21 03:00")) == Fire("schedule")

    def test_a_moment_that_nobody_looked_at_is_made_up_for_once(self) -> None:
        assert asked(self.nightly(), now=at("2026-11-24 17:00")) == Fire("schedule")
        dealt = self.nightly(scheduled_at=at("2026-11-24 17:00"))
        waits(asked(dealt, now=at("2026-11-24 18:00")), "schedule", at("2026-11-25 03:00"))

    def test_a_moment_with_too_little_data_is_over(self) -> None:
        a_rule = self.nightly(10, trigger={**self.NIGHT, "min_rows": 100})
        answer = asked(a_rule, now=at("2026-11-21 03:00:30"))
        assert isinstance(answer, Wait)
        assert answer.passed == at("2026-11-21 03:00")
        later = noted(a_rule, answer).with_(pending_rows=200, counted_rows=200)
        waits(asked(later, now=at("2026-11-21 04:00")), "schedule", at("2026-11-22 03:00"))
        assert asked(later, now=at("2026-11-22 03:00")) == Fire("rows")

    def test_a_moment_without_any_data_is_over(self) -> None:
        answer = asked(self.nightly(0), now=at("2026-11-21 03:01"))
        assert isinstance(answer, Wait)
        assert answer.passed == at("2026-11-21 03:00")

    def test_a_moment_whose_rows_turn_out_to_be_known_is_over(self) -> None:
        answer = asked(self.nightly(10, counted_rows=0), now=at("2026-11-21 03:01"))
        assert isinstance(answer, Wait)
        assert answer.passed == at("2026-11-21 03:00")

    @pytest.mark.parametrize(
        "changes", [{"last_arrival_at": at("2026-11-21 02:59")}, {"begun": (at("2026-11-21 02:30"),)}, {"live": 1}]
    )
    def test_a_moment_is_kept_through_every_other_wait(self, changes: dict[str, object]) -> None:
        answer = asked(self.nightly(**changes), now=at("2026-11-21 03:00"))
        assert isinstance(answer, Wait)
        assert answer.passed is None
        if "live" not in changes:
            assert answer.until is not None
            assert asked(self.nightly(**changes), now=answer.until) == Fire("schedule")

    def test_data_that_left_no_model_is_tried_again_at_the_next_moment(self) -> None:
        a_rule = self.nightly(tried_through=4, scheduled_at=at("2026-11-21 03:00"))
        waits(asked(a_rule, now=at("2026-11-21 12:00")), "more data")
        assert asked(a_rule, now=at("2026-11-22 03:00")) == Fire("schedule")


class TestMoney:
    NOVEMBER = at("2026-11-26 12:00")

    def paid(self, spent: int, month: str = "2026-11") -> RuleRecord:
        request = rule_request(trigger={"min_rows": 100}, monthly_budget_usd=12)
        return pending(200, request=request, month=month, spent=spent)

    def test_a_month_s_budget_holds_for_what_is_spent_and_what_would_be(self) -> None:
        assert asked(self.paid(7_000_000), now=self.NOVEMBER) == Fire("rows")
        waits(asked(self.paid(7_000_001), now=self.NOVEMBER), "monthly_budget_usd", at("2026-12-01 00:00"))

    def test_a_new_month_is_a_new_budget(self) -> None:
        assert asked(self.paid(12_000_000), now=at("2026-12-01 00:00")) == Fire("rows")
        assert asked(self.paid(12_000_000, "2026-10"), now=self.NOVEMBER) == Fire("rows")

    def test_a_clock_that_is_behind_spends_nothing_of_last_month(self) -> None:
        waits(asked(self.paid(12_000_000, "2026-12"), now=self.NOVEMBER), "monthly_budget_usd", at("2026-12-01 00:00"))

    def test_december_ends_in_january(self) -> None:
        waits(asked(self.paid(9_000_000, "2026-12"), now=at("2026-12-31 23:00")), "monthly", at("2027-01-01 00:00"))


class TestByHand:
    def test_a_person_fires_whatever_thresholds_quiet_schedule_and_switch_say(self) -> None:
        trigger = {"min_rows": 10_000, "schedule": "0 3 * * *"}
        request = rule_request(trigger=trigger, enabled=False)
        a_rule = pending(1, request=request, last_arrival_at=NOW, tried_through=4, counted_through=0)
        assert by_hand(a_rule, CAP, NOW) == Fire("person")

    @pytest.mark.parametrize(
        ("changes", "word"),
        [
            ({"live": 1}, "retraining 1"),
            ({"deleted_at": NOW}, "deleted"),
            ({"begun": (NOW - 10,)}, "min_interval_seconds"),
            ({"begun": tuple(NOW - 20_000 - number for number in range(4, 0, -1))}, "max_per_day"),
            ({"month": "2026-09", "spent": 8_000_000}, "monthly_budget_usd"),
            ({"pending_rows": 0}, "new data"),
        ],
    )
    def test_but_not_beyond_the_limits(self, changes: dict[str, object], word: str) -> None:
        a_rule = pending(200, **{"request": rule_request(monthly_budget_usd=12), **changes})
        answer = by_hand(a_rule, CAP, NOW)
        assert isinstance(answer, Wait)
        assert word in answer.reason

    def test_all_data_can_be_trained_on_again_without_any_that_is_new(self) -> None:
        a_rule = pending(0, request=rule_request(selection={"rows": "all"}))
        assert by_hand(a_rule, CAP, NOW) == Fire("person")
        assert isinstance(by_hand(a_rule.with_(sequence=0), CAP, NOW), Wait)


def test_what_a_rule_waits_for_is_noted_once() -> None:
    wait = Wait("new data")
    a_rule = noted(rule(), wait)
    assert a_rule.waiting_for == "new data"
    assert noted(a_rule, wait) is a_rule
    assert noted(a_rule, Wait("new data", passed=NOW)).scheduled_at == NOW
