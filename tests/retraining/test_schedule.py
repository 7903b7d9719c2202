"""Cron's five fields in UTC."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotune.retraining.schedule import parse


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ("0 3 * * *", "2026-11-26 02:59:59", "2026-11-26 03:00"),
        ("0 3 * * *", "2026-11-26 03:00:00", "2026-11-27 03:00"),
        ("*/20 * * * *", "2026-11-26 10:41", "2026-11-26 11:00"),
        ("5-50/15 8,20 * * *", "2026-11-26 08:36", "2026-11-26 08:50"),
        ("30 6 * * 1-5", "2026-11-27 07:00", "2026-11-30 06:30"),
        ("0 0 * * 0", "2026-11-26 00:00", "2026-11-29 00:00"),
        ("0 0 * * 7", "2026-11-26 00:00", "2026-11-29 00:00"),
        ("0 0 * * sun", "2026-11-26 00:00", "2026-11-29 00:00"),
        ("0 0 1 JAN *", "2026-11-26 00:00", "2027-01-01 00:00"),
        ("0 0 29 2 *", "2026-11-26 00:00", "2028-02-29 00:00"),
        # Two rare days together: such a day comes after eleven years, and this one after forty.
        ("0 0 3 3 */7", "2030-03-04 00:00", "2041-03-03 00:00"),
        ("0 0 29 2 */7", "2088-03-01 00:00", "2128-02-29 00:00"),
        ("0 0 31 * *", "2026-11-30 00:00", "2026-12-31 00:00"),
        # Both days given: either will do. With a star in front, both have to hold.
        ("0 0 13 * 5", "2026-11-26 00:00", "2026-11-27 00:00"),
        ("0 0 */13 * 5", "2026-11-27 01:00", "2027-01-01 00:00"),
    ],
)
def test_the_next_moment(text: str, after: str, expected: str) -> None:
    assert parse(text).next(at(after)) == at(expected)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("0 3 * *", "five fields"),
        ("0 3 * * * *", "five fields"),
        ("", "five fields"),
        ("60 3 * * *", "minute"),
        ("0 24 * * *", "hour"),
        ("0 3 0 * *", "day of the month"),
        ("0 3 * 13 *", "month"),
        ("0 3 * * 8", "day of the week"),
        ("0 3 * * MON-SUN", "day of the week"),
        ("5-1 3 * * *", "minute"),
        ("*/0 3 * * *", "step"),
        ("*/x 3 * * *", "step"),
        ("1, 3 * * *", "number"),
        ("-1 3 * * *", "number"),
        ("\u0661 3 * * *", "number"),
        ("0 0 30 2 *", "no year"),
        ("@daily", "five fields"),
    ],
)
def test_what_is_no_schedule_is_refused_by_its_field(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        parse(text)


FIELD = st.sampled_from(["*", "*/7", "3", "1-4", "2,5", "0-6/2"])
DAY_FIELD = st.sampled_from(["*", "*/7", "3", "1-4", "2,5", "1-6/2"])
SCHEDULES = st.tuples(FIELD, FIELD, DAY_FIELD, DAY_FIELD, FIELD).map(" ".join)


@given(SCHEDULES, st.floats(1.5e9, 2.2e9))
def test_the_latest_moment_is_the_one_before_the_next(text: str, now: float) -> None:
    made = parse(text)
    coming = made.next(now)
    assert coming is not None
    assert coming > now
    assert made.latest(coming, now) == coming
    assert made.latest(coming - 1, now) is None
    beyond = made.next(coming)
    assert beyond is not None
    assert made.latest(beyond, now) == beyond
    assert made.latest(beyond - 0.5, now) == coming


def test_there_is_no_moment_in_a_time_that_goes_back() -> None:
    assert parse("* * * * *").latest(at("2026-11-26 10:00"), at("2026-11-26 11:00")) is None


def test_a_moment_of_long_ago_is_found() -> None:
    assert parse("0 0 29 2 *").latest(at("2027-06-01 00:00"), at("2020-01-01 00:00")) == at("2024-02-29 00:00")
