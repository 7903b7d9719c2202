"""Rules in the words of the CLI."""

from __future__ import annotations

from spotune.cli import words
from spotune.contracts.base import dollars
from spotune.contracts.rule_objects import RuleObject
from spotune.contracts.rules import Selection, Trigger


def state_words(rule: RuleObject) -> str:
    """Whether it is on, and whether it only plans."""
    if not rule.enabled:
        return "off"
    return "on, dry run" if rule.dry_run else "on"


def pending_words(rule: RuleObject) -> str:
    """What has come since the last retraining took its data."""
    return f"{rule.pending.rows:,} rows, {words.size(rule.pending.bytes)}"


def rule_rows(rule: RuleObject, *, now: float) -> list[tuple[str, str]]:
    """A rule, fact by fact."""
    last, money, carved = rule.pending.last_arrival_at, rule.money, rule.evaluation_set
    limit = "" if money.limit is None else f" of {dollars(money.limit)}"
    rows = [
        ("id", rule.id),
        ("state", state_words(rule)),
        ("source", rule.source.uri),
        ("model", f"{rule.job.model}, in group {rule.model_group}"),
        ("fires on", trigger_words(rule.trigger)),
        ("trains on", selection_words(rule.selection)),
        ("pending", pending_words(rule) + ("" if last is None else f"; the last file {words.age(now - last)} ago")),
        ("retrainings", str(rule.retrainings) + ("" if rule.live is None else f"; number {rule.live} has not ended")),
        ("spent", f"{dollars(money.spent)}{limit} in {money.month}"),
        ("evaluation set", "not carved yet" if carved is None else f"{carved.rows:,} rows in {carved.uri}"),
    ]
    return rows + ([("waits for", rule.waiting_for)] if rule.waiting_for else [])


def trigger_words(trigger: Trigger) -> str:
    """When a rule fires."""
    wanted = [
        None if trigger.min_rows is None else f"{trigger.min_rows:,} rows",
        None if trigger.min_bytes is None else words.size(trigger.min_bytes),
        None if trigger.min_growth is None else f"{trigger.min_growth:.0%} growth",
    ]
    said = [
        " or ".join(filter(None, wanted)) or "any new row",
        f"{words.duration(trigger.quiet_seconds)} of quiet",
        f"{words.duration(trigger.min_interval_seconds)} apart",
        f"{trigger.max_per_day} a day at most",
        *([] if trigger.schedule is None else [f"at {trigger.schedule} (UTC)"]),
    ]
    return ", ".join(said)


def selection_words(selection: Selection) -> str:
    """What a retraining trains on."""
    if selection.rows == "new_and_replay":
        return f"new rows, and {selection.replay_share:.0%} replayed from the champion's"
    return "new rows" if selection.rows == "new" else "all rows"
