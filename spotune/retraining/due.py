"""Whether a rule fires now: its switch, what is pending, its schedule, its limits and its money.

    due(rule, known, cap, now) -> Fire    begin a retraining (`course.begin`)
                                  Count   count the new rows exactly (`course.counted`), and ask again
                                  Wait    for what it says; `noted` keeps it in the rule

Cheap questions come first. `pending_rows` is an upper bound, since it has rows twice that are there twice; only where
that reaches a threshold, and nothing else is in the way, are hashes of rows read.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from spotune.contracts.base import MicroUSD, Timestamp, dollars
from spotune.contracts.money import month_of
from spotune.contracts.rules import Cause, RuleRecord
from spotune.retraining import schedule

DAY = 86_400


@dataclass(frozen=True, slots=True)
class Known:
    """What the group's champion was trained on."""

    champion: str | None = None
    """Its name; None where the group has none."""
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Fire:
    """Begin a retraining."""

    cause: Cause


@dataclass(frozen=True, slots=True)
class Count:
    """Enough may be there: count the rows of accepted arrivals up to this sequence, each once, without the champion's
    and the frozen set's."""

    through: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is begun."""

    reason: str
    """What it waits for, in words that stay the same for as long."""
    until: Timestamp | None = None
    """When to look again; None: when something else changes."""
    passed: Timestamp | None = None
    """A moment of the schedule that this deals with: there was too little for it."""


def due(rule: RuleRecord, known: Known, cap: MicroUSD, now: Timestamp) -> Fire | Count | Wait:
    """Whether a retraining begins now.

    Args:
        cap: what its job may cost.
    """
    if not rule.request.enabled:
        return Wait("off")
    passed = opened(rule, now)
    return (
        _too_little(rule, known, passed)
        or _too_early(rule, passed, now)
        or barred(rule, cap, now)
        or _counted(rule, known, passed)
    )


def by_hand(rule: RuleRecord, cap: MicroUSD, now: Timestamp) -> Fire | Wait:
    """Whether a retraining begins now that a person asks for it: whatever the switch, thresholds, quiet and schedule
    say, within the limits and the money."""
    if (bar := barred(rule, cap, now)) is not None:
        return bar
    again = rule.request.selection.rows == "all" and rule.sequence > 0
    return Fire("person") if rule.pending_rows > 0 or again else Wait("new data: there is none")


def barred(rule: RuleRecord, cap: MicroUSD, now: Timestamp) -> Wait | None:
    """What keeps a rule from beginning a retraining whoever asks for it: its limits and its money."""
    trigger, budget = rule.request.trigger, rule.request.monthly_budget
    if rule.deleted_at is not None:
        return Wait("deleted")
    if rule.live is not None:
        return Wait(f"retraining {rule.live} has not ended")
    if rule.begun and now < (free := rule.begun[-1] + trigger.min_interval_seconds):
        return Wait(f"min_interval_seconds: the next may begin at {clock(free)}", free)
    recent = [at for at in rule.begun if at > now - DAY]
    if len(recent) >= trigger.max_per_day:
        free = recent[-trigger.max_per_day] + DAY
        return Wait(f"max_per_day: {trigger.max_per_day} began within 24 hours; the next may at {clock(free)}", free)
    spent = spent_in(rule, month_of(now))
    if budget is not None and spent + cap > budget:
        words = f"monthly_budget_usd: {dollars(spent)} of {dollars(budget)} spent or reserved, {dollars(cap)} needed"
        return Wait(words, _next_month(now))
    return None


def noted(rule: RuleRecord, wait: Wait) -> RuleRecord:
    """The rule with what it waits for; the same rule where that is known."""
    passed = rule.scheduled_at if wait.passed is None else wait.passed
    if (rule.waiting_for, rule.scheduled_at) == (wait.reason, passed):
        return rule
    return rule.with_(waiting_for=wait.reason, scheduled_at=passed)


def spent_in(rule: RuleRecord, month: str) -> MicroUSD:
    """What the month's retrainings of a rule were billed, or may still be."""
    return rule.spent if rule.month >= month else 0


def clock(at: Timestamp) -> str:
    """A moment as a person reads it."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def opened(rule: RuleRecord, now: Timestamp) -> Timestamp | None:
    """The moment of the schedule that has come and was not dealt with: it stays open until the rule fires, or has too
    little to fire on."""
    text = rule.request.trigger.schedule
    since = rule.created_at if rule.scheduled_at is None else rule.scheduled_at
    return None if text is None else schedule.parse(text).latest(now, since)


def _too_little(rule: RuleRecord, known: Known, passed: Timestamp | None) -> Wait | None:
    if rule.pending_rows == 0:
        return Wait("new data", passed=passed)
    if rule.tried_through >= rule.sequence and passed is None:
        return Wait("more data: what there is was in a retraining that left no model")
    if _reached(rule, rule.pending_rows, known) is None:
        return Wait(
            f"{_wanted(rule, known)}: {rule.pending_rows} rows in {rule.pending_bytes} bytes came", passed=passed
        )
    return None


def _too_early(rule: RuleRecord, passed: Timestamp | None, now: Timestamp) -> Wait | None:
    trigger = rule.request.trigger
    if trigger.schedule is not None and passed is None:
        moment = schedule.parse(trigger.schedule).next(now)
        return Wait(f"schedule: {'no moment comes' if moment is None else clock(moment)}", moment)
    quiet = (rule.last_arrival_at or 0) + trigger.quiet_seconds
    return Wait(f"quiet_seconds: no file until {clock(quiet)}", quiet) if now < quiet else None


def _counted(rule: RuleRecord, known: Known, passed: Timestamp | None) -> Fire | Count | Wait:
    if (rule.counted_through, rule.counted_against) != (rule.sequence, known.champion):
        return Count(rule.sequence)
    cause = _reached(rule, rule.counted_rows, known)
    if cause is None:
        return Wait(f"{_wanted(rule, known)}: {rule.counted_rows} rows are new, each counted once", passed=passed)
    return Fire(cause)


def _reached(rule: RuleRecord, rows: int, known: Known) -> Cause | None:
    """The first threshold that so many new rows reach; any row does where there is none, or no champion to grow on."""
    trigger = rule.request.trigger
    if rows == 0:
        return None
    if trigger.min_rows is not None and rows >= trigger.min_rows:
        return "rows"
    if trigger.min_bytes is not None and rule.pending_bytes >= trigger.min_bytes:
        return "bytes"
    if trigger.min_growth is not None and rows >= trigger.min_growth * known.rows:
        return "growth"
    return None if trigger.has_threshold else "schedule"


def _wanted(rule: RuleRecord, known: Known) -> str:
    trigger = rule.request.trigger
    wanted = [
        None if trigger.min_rows is None else f"min_rows {trigger.min_rows}",
        None if trigger.min_bytes is None else f"min_bytes {trigger.min_bytes}",
        None if trigger.min_growth is None else f"min_growth {trigger.min_growth:g} of {known.rows} rows",
    ]
    return " or ".join(filter(None, wanted)) or "any new row"


def _next_month(now: Timestamp) -> Timestamp:
    day = datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (day + timedelta(days=32)).replace(day=1).timestamp()
