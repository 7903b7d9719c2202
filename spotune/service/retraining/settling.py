"""What was found of arrivals becomes one change of their rule: many of them in one transaction, guarded by its version.

Every outcome may come twice, late, or beside another process's: what is stored by then decides, and what is decided
already changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spotune.contracts.errors import Unavailable, VersionConflict
from spotune.contracts.rules import Arrival, RuleRecord
from spotune.retraining import arrivals
from spotune.retraining.arrivals import Change, Checked
from spotune.service.installation import Installation
from spotune.service.retraining.file_checks import Unfit, quarantined
from spotune.store.base import Store
from spotune.store.retraining import MOST_ARRIVALS

logger = logging.getLogger(__name__)

MOST_TRIES = 20
"""Deliveries at work on the same rule get in each other's way; each time one of them comes through."""


@dataclass(frozen=True, slots=True)
class Good:
    """A file that may be trained on."""

    arrival: Arrival
    checked: Checked


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A file that may not."""

    arrival: Arrival
    reason: str
    report_uri: str


@dataclass(frozen=True, slots=True)
class Gone:
    """A version that is not there any more; of others of its key that says nothing."""

    arrival: Arrival


@dataclass(frozen=True, slots=True)
class Deleted:
    """A key that was deleted: its versions until then count no more. `arrival` is the record of that."""

    arrival: Arrival


@dataclass(frozen=True, slots=True)
class Listed:
    """A file that stands for others; each of these has an outcome of its own."""

    arrival: Arrival
    reason: str


Outcome = Good | Quarantined | Gone | Deleted | Listed


def settle(here: Installation, rule_id: str, outcomes: Sequence[Outcome]) -> None:
    """Let these outcomes happen to a rule, in their order.

    Raises:
        Unavailable: the rule kept changing under us, or the store does not answer; say it again.
    """
    left, tries = list(outcomes), 0
    while left:
        rule = here.store.find_rule(rule_id)
        if rule is None:
            return
        if rule.deleted_at is not None:
            left = [Gone(outcome.arrival) for outcome in left]  # where it is made again, a sweep finds them
        try:
            left = left[_settle_some(here, rule, left) :]
        except VersionConflict:
            tries += 1
            if tries == MOST_TRIES:
                raise Unavailable(
                    f"Rule {rule_id} is being changed by others.", code="contention", remedy="It is tried again."
                ) from None


def _settle_some(here: Installation, before: RuleRecord, outcomes: Sequence[Outcome]) -> int:
    """Commit as many outcomes as one transaction takes; how many that were."""
    rule, known, settled = before, _Known(here.store, before.id), 0
    for outcome in outcomes:
        change = _change(here, rule, outcome, known)
        if known.changed and len(known.changed) + len(change.arrivals) > MOST_ARRIVALS:
            break
        rule, settled = change.rule, settled + 1
        known.change(change)
    if known.changed:
        here.store.commit_arrivals(before, rule, tuple(known.changed.values()))
        logger.info("arrivals: %s", ", ".join(sorted(one.state for one in known.changed.values())))
    return settled


def _change(here: Installation, rule: RuleRecord, outcome: Outcome, known: _Known) -> Change:
    arrival, now = outcome.arrival, here.clock()
    match outcome:
        case Deleted():
            return arrivals.delete_object(rule, arrival, known.of_object(arrival.uri), known.of_bytes, now)
        case Gone():
            stored = known.one(arrival) or arrival
            return arrivals.delete_version(rule, stored, known.of_bytes, now)
        case Listed(reason=reason):
            return arrivals.list_others(rule, known.awaited(arrival), known.of_object(arrival.uri), reason)
        case Quarantined(reason=reason, report_uri=uri):
            return arrivals.quarantine(rule, known.awaited(arrival), reason, uri)
        case Good(checked=checked):
            awaited = known.awaited(arrival)
            if awaited.state == "arrived" and (reason := arrivals.other_format(rule, checked)):
                return arrivals.quarantine(rule, awaited, reason, quarantined(here, awaited, Unfit(reason)))
            return arrivals.accept(rule, awaited, checked, known.of_object(arrival.uri), known.of_bytes, now)


class _Known:
    """What is stored of a rule's arrivals, and what the present change has made of them so far."""

    def __init__(self, store: Store, rule_id: str) -> None:
        self._store = store
        self._rule_id = rule_id
        self.changed: dict[tuple[str, str], Arrival] = {}

    def change(self, change: Change) -> None:
        """Read on as if this were stored."""
        self.changed |= {(one.uri, one.version_id): one for one in change.arrivals}

    def one(self, arrival: Arrival) -> Arrival | None:
        """As it stands."""
        key = (arrival.uri, arrival.version_id)
        return self.changed.get(key) or self._store.get_arrival(self._rule_id, *key)

    def awaited(self, arrival: Arrival) -> Arrival:
        """An arrival whose file was read: as it stands, but for one that came again after it was overtaken."""
        stored = self.one(arrival)
        if stored is None or stored.state == "arrived":
            return stored or arrival
        again = stored.state in ("superseded", "gone") and arrivals.later(arrival, stored)
        return arrival if again else stored

    def of_object(self, uri: str) -> tuple[Arrival, ...]:
        """All versions of a key."""
        return self._with_changes(self._store.arrivals_of_object(self._rule_id, uri), lambda one: one.uri == uri)

    def of_bytes(self, sha256: str) -> tuple[Arrival, ...]:
        """All with these bytes."""
        found = self._store.arrivals_of_bytes(self._rule_id, sha256)
        return self._with_changes(found, lambda one: one.sha256 == sha256)

    def _with_changes(self, stored: Sequence[Arrival], belongs: Callable[[Arrival], bool]) -> tuple[Arrival, ...]:
        merged = {(one.uri, one.version_id): one for one in stored}
        merged |= {key: one for key, one in self.changed.items() if belongs(one)}
        return tuple(merged.values())
