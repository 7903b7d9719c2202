"""Rules, arrivals and retrainings in dicts: the twin of `dynamo_retraining.py`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TypeVar

from spotune.contracts.errors import VersionConflict
from spotune.contracts.layout import split_uri
from spotune.contracts.rules import Arrival, ArrivalState, Retraining, RuleRecord
from spotune.store.items import LAST_SEQUENCE
from spotune.store.page import Page, page_of
from spotune.store.records import decode, encode, moment, unknown_cursor
from spotune.store.retraining import MOST_ARRIVALS, split_cursor
from spotune.store.retraining_items import arrival_moment

R = TypeVar("R", RuleRecord, Retraining)

_Name = tuple[str, str]
"""URI and version id of an arrival."""


class MemoryRetraining:
    """Fulfils `RetrainingStore` in memory."""

    def __init__(self) -> None:
        super().__init__()
        self._retraining = threading.RLock()
        self._rules: dict[str, bytes] = {}
        self._retrainings: dict[tuple[str, int], bytes] = {}
        self._arrivals: dict[str, dict[_Name, bytes]] = {}
        self._waiting: dict[tuple[str, _Name], bytes] = {}
        self._accepted: dict[str, dict[int, bytes]] = {}
        self._objects: dict[tuple[str, str], set[_Name]] = {}
        """(rule, URI) -> its arrivals."""
        self._bytes: dict[tuple[str, str], set[_Name]] = {}
        """(rule, hash) -> the arrivals with these bytes."""

    def create_rule(self, rule: RuleRecord) -> bool:
        """See `RetrainingStore`."""
        with self._retraining:
            if rule.id in self._rules:
                return False
            self._rules[rule.id] = encode(rule.with_(version=1))
            return True

    def find_rule(self, rule_id: str) -> RuleRecord | None:
        """See `RetrainingStore`."""
        body = self._rules.get(rule_id)
        return None if body is None else decode(RuleRecord, body)

    def get_rule(self, tenant: str, rule_id: str) -> RuleRecord | None:
        """See `RetrainingStore`."""
        rule = self.find_rule(rule_id)
        return rule if rule is not None and rule.tenant == tenant and rule.deleted_at is None else None

    def list_rules(self, tenant: str, *, after: str | None, limit: int) -> Page[RuleRecord]:
        """See `RetrainingStore`."""
        mine = [rule for rule in reversed(self._kept_rules()) if rule.tenant == tenant]
        if after is not None:
            if self.get_rule(tenant, after) is None:
                raise unknown_cursor(after)
            mine = mine[[rule.id for rule in mine].index(after) + 1 :]
        return page_of(mine[: limit + 1], limit)

    def rules_of_bucket(self, bucket: str) -> Iterator[RuleRecord]:
        """See `RetrainingStore`."""
        return (rule for rule in self._kept_rules() if split_uri(rule.request.source.uri)[0] == bucket)

    def active_rules(self) -> Iterator[RuleRecord]:
        """See `RetrainingStore`."""
        return (rule for rule in self._kept_rules(deleted=True) if rule.active)

    def replace_rule(self, before: RuleRecord, rule: RuleRecord) -> None:
        """See `RetrainingStore`."""
        self.commit_arrivals(before, rule, ())

    def record_arrival(self, arrival: Arrival) -> Arrival:
        """See `RetrainingStore`."""
        with self._retraining:
            known = self.get_arrival(arrival.rule_id, arrival.uri, arrival.version_id)
            if known is None:
                self._put_arrival(arrival, encode(arrival))
            return known or arrival

    def commit_arrivals(self, before: RuleRecord, rule: RuleRecord, arrivals: tuple[Arrival, ...]) -> None:
        """See `RetrainingStore`."""
        if len(arrivals) > MOST_ARRIVALS:
            raise ValueError(f"one change takes {MOST_ARRIVALS} arrivals at most, not {len(arrivals)}")
        bodies = [encode(arrival) for arrival in arrivals]
        with self._retraining:
            self._put_rule(before, rule)
            for arrival, body in zip(arrivals, bodies, strict=True):
                self._put_arrival(arrival, body)
                self._put_copies(arrival, body)

    def get_arrival(self, rule_id: str, uri: str, version_id: str) -> Arrival | None:
        """See `RetrainingStore`."""
        body = self._arrivals.get(rule_id, {}).get((uri, version_id))
        return None if body is None else decode(Arrival, body)

    def arrivals_of_object(self, rule_id: str, uri: str) -> tuple[Arrival, ...]:
        """See `RetrainingStore`."""
        with self._retraining:
            return self._named(rule_id, self._objects.get((rule_id, uri), set()))

    def arrivals_of_bytes(self, rule_id: str, sha256: str) -> tuple[Arrival, ...]:
        """See `RetrainingStore`."""
        with self._retraining:
            return self._named(rule_id, self._bytes.get((rule_id, sha256), set()))

    def accepted_arrivals(self, rule_id: str, *, after: int, through: int) -> Iterator[Arrival]:
        """See `RetrainingStore`."""
        with self._retraining:
            kept = self._accepted.get(rule_id, {})
            bodies = [kept[sequence] for sequence in sorted(kept) if after < sequence <= through]
        return (decode(Arrival, body) for body in bodies)

    def list_arrivals(
        self, tenant: str, rule_id: str, *, after: str | None, limit: int, state: ArrivalState | None = None
    ) -> Page[Arrival]:
        """See `RetrainingStore`."""
        with self._retraining:
            arrivals = [decode(Arrival, body) for body in self._arrivals.get(rule_id, {}).values()]
        before = None
        if after is not None:
            known = self.get_arrival(rule_id, *split_cursor(after))
            if known is None or known.tenant != tenant:
                raise unknown_cursor(after)
            before = arrival_moment(known)
        mine = [one for one in arrivals if one.tenant == tenant and state in (None, one.state)]
        placed = sorted(((arrival_moment(one), one) for one in mine), key=lambda pair: pair[0], reverse=True)
        return page_of([one for at, one in placed if before is None or at < before][: limit + 1], limit)

    def waiting_arrivals(self, arrived_before: float) -> Iterator[Arrival]:
        """See `RetrainingStore`."""
        with self._retraining:
            arrivals = [decode(Arrival, body) for body in self._waiting.values()]
        return iter(sorted((one for one in arrivals if one.arrived_at < arrived_before), key=arrival_moment))

    def begin_retraining(self, before: RuleRecord, rule: RuleRecord, retraining: Retraining) -> None:
        """See `RetrainingStore`."""
        body = encode(retraining.with_(version=1))
        with self._retraining:
            if (retraining.rule_id, retraining.number) in self._retrainings:
                raise VersionConflict(rule.id)
            self._put_rule(before, rule)
            self._retrainings[retraining.rule_id, retraining.number] = body

    def commit_retraining(
        self, before: Retraining, retraining: Retraining, rules: tuple[RuleRecord, RuleRecord] | None = None
    ) -> None:
        """See `RetrainingStore`."""
        place = before.rule_id, before.number
        body = encode(retraining.with_(version=before.version + 1))
        with self._retraining:
            _check(before, self._retrainings.get(place), f"{before.rule_id}/{before.number}")
            if rules is not None:
                self._put_rule(*rules)
            self._retrainings[place] = body

    def get_retraining(self, tenant: str, rule_id: str, number: int) -> Retraining | None:
        """See `RetrainingStore`."""
        body = self._retrainings.get((rule_id, number))
        retraining = None if body is None else decode(Retraining, body)
        return retraining if retraining is not None and retraining.tenant == tenant else None

    def list_retrainings(self, tenant: str, rule_id: str, *, after: int, limit: int) -> Page[Retraining]:
        """See `RetrainingStore`."""
        newest = after - 1 if after > 0 else LAST_SEQUENCE
        with self._retraining:
            numbers = sorted((number for of, number in self._retrainings if of == rule_id), reverse=True)
        found = (self.get_retraining(tenant, rule_id, number) for number in numbers if number <= newest)
        return page_of([one for one in found if one is not None][: limit + 1], limit)

    def _kept_rules(self, *, deleted: bool = False) -> list[RuleRecord]:
        """Oldest first."""
        with self._retraining:
            rules = [decode(RuleRecord, body) for body in self._rules.values()]
        kept = [rule for rule in rules if deleted or rule.deleted_at is None]
        return sorted(kept, key=lambda rule: moment(rule.created_at, rule.id))

    def _put_rule(self, before: RuleRecord, rule: RuleRecord) -> None:
        if before.id != rule.id or before.tenant != rule.tenant:
            raise ValueError(f"a change of {before.tenant}'s rule {before.id} cannot write {rule.tenant}'s {rule.id}")
        body = encode(rule.with_(version=before.version + 1))
        _check(before, self._rules.get(rule.id), rule.id)
        self._rules[rule.id] = body

    def _put_arrival(self, arrival: Arrival, body: bytes) -> None:
        name = arrival.uri, arrival.version_id
        self._arrivals.setdefault(arrival.rule_id, {})[name] = body
        self._objects.setdefault((arrival.rule_id, arrival.uri), set()).add(name)
        self._waiting.pop((arrival.rule_id, name), None)
        if arrival.state == "arrived":
            self._waiting[arrival.rule_id, name] = body

    def _put_copies(self, arrival: Arrival, body: bytes) -> None:
        if arrival.sequence is not None:
            self._accepted.setdefault(arrival.rule_id, {})[arrival.sequence] = body
        if arrival.sha256 is not None:
            found = self._bytes.setdefault((arrival.rule_id, arrival.sha256), set())
            found.add((arrival.uri, arrival.version_id))

    def _named(self, rule_id: str, names: set[_Name]) -> tuple[Arrival, ...]:
        """By time."""
        bodies = [self._arrivals[rule_id][name] for name in names]
        return tuple(sorted((decode(Arrival, body) for body in bodies), key=arrival_moment))


def _check(before: R, body: bytes | None, name: str) -> None:
    if body is None or decode(type(before), body).version != before.version:
        raise VersionConflict(name)
