"""A rule's schedule: cron's five fields, in UTC.

Minute, hour, day of the month, month, day of the week (0 and 7 are Sunday); lists, ranges, steps, and names of months
and days. Where both days are given, either will do; where one of them begins with a star, both have to hold, as in
Debian's cron. UTC has no summer time, so a moment is a day and a minute of it and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

from spotune.contracts.base import Timestamp

_MONTHS = {
    name: number
    for number, name in enumerate(
        ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"), start=1
    )
}
_DAYS = {"SUN": 0, "MON": 1, "TUE": 2, "WED": 3, "THU": 4, "FRI": 5, "SAT": 6}
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 7, _DAYS),
)
_SEARCHED_DAYS = 41 * 366
"""The 29th of February on a given day of the week is at most 40 years away: 2100 has none."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The moments of a schedule."""

    minutes: tuple[int, ...]
    """Of the day, ascending."""
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """Monday is 0, as Python counts."""
    both: bool
    """The day has to be one of the month's and one of the week's; else one of the two."""

    def next(self, after: Timestamp) -> Timestamp | None:
        """The first moment after this one; None where none comes for 40 years."""
        start = datetime.fromtimestamp(after, UTC)
        days = (start.date() + timedelta(days=one) for one in range(_SEARCHED_DAYS))
        return next((at for day in days for at in self._moments(day) if at > after), None)

    def latest(self, now: Timestamp, since: Timestamp) -> Timestamp | None:
        """The last moment after `since` and up to `now`; None where there was none."""
        first, last = (datetime.fromtimestamp(at, UTC).date() for at in (since, max(now, since)))
        days = (last - timedelta(days=one) for one in range(min((last - first).days + 1, _SEARCHED_DAYS)))
        return next((at for day in days for at in reversed(self._moments(day)) if since < at <= now), None)

    def _moments(self, day: date) -> list[Timestamp]:
        if not self._is_on(day):
            return []
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
        return [midnight + minute * 60 for minute in self.minutes]

    def _is_on(self, day: date) -> bool:
        of_month, of_week = day.day in self.days, day.weekday() in self.weekdays
        return day.month in self.months and ((of_month and of_week) if self.both else (of_month or of_week))


@lru_cache(maxsize=256)
def parse(text: str) -> Schedule:
    """The schedule of a text.

    Raises:
        ValueError: it is none, in words that name the field, or its moment never comes.
    """
    parts = text.upper().split()
    if len(parts) != len(_FIELDS):
        raise ValueError(f"a schedule has five fields (minute, hour, day, month, weekday), not {len(parts)}")
    minutes, hours, days, months, weekdays = (_values(part, *field) for part, field in zip(parts, _FIELDS, strict=True))
    made = Schedule(
        minutes=tuple(hour * 60 + minute for hour in sorted(hours) for minute in sorted(minutes)),
        days=frozenset(days),
        months=frozenset(months),
        weekdays=frozenset((number - 1) % 7 for number in weekdays),
        both=parts[2].startswith("*") or parts[4].startswith("*"),
    )
    if made.next(0) is None:
        raise ValueError("no year has such a day")
    return made


def _values(text: str, field: str, low: int, high: int, names: dict[str, int]) -> set[int]:
    return {value for part in text.split(",") for value in _range(part, field, low, high, names)}


def _range(text: str, field: str, low: int, high: int, names: dict[str, int]) -> Iterable[int]:
    span, slash, step = text.partition("/")
    if slash and not (_is_number(step) and int(step) > 0):
        raise ValueError(f"{field}: {text!r} has no step that is a number from 1 on")
    if span == "*":
        first, last = low, high
    else:
        start, dash, end = span.partition("-")
        first = _number(start, text, field, names)
        last = _number(end, text, field, names) if dash else high if slash else first
    if not low <= first <= last <= high:
        raise ValueError(f"{field}: {text!r} does not lie in {low}-{high}")
    return range(first, last + 1, int(step) if slash else 1)


def _number(text: str, part: str, field: str, names: dict[str, int]) -> int:
    if text in names:
        return names[text]
    if not _is_number(text):
        raise ValueError(f"{field}: {part!r} is no number, range or list")
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 3
