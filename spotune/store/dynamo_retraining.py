"""Rules, arrivals and retrainings in DynamoDB. Keys and items are spelled in `retraining_items.py`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from spotune.contracts.rules import Arrival, ArrivalState, Retraining, RuleRecord
from spotune.store import items
from spotune.store import retraining_items as keys
from spotune.store.counters import Write
from spotune.store.items import Item, body_of, number, record_of, text
from spotune.store.page import Page, page_of
from spotune.store.records import is_id, moment, readable, unknown_cursor
from spotune.store.retraining import MOST_ARRIVALS, split_cursor
from spotune.store.table import DynamoTable, is_of
from spotune.store.transaction import ConditionFailed, call, new_token, put

_UNCHANGED = "version = :version"
_NEW = "attribute_not_exists(pk)"


class DynamoRetraining(DynamoTable):
    """Fulfils `RetrainingStore`."""

    def create_rule(self, rule: RuleRecord) -> bool:
        """See `RetrainingStore`."""
        item = keys.rule_item(rule.with_(version=1), new_token())
        try:
            call(self._client.put_item, TableName=self._table, Item=item, ConditionExpression=_NEW)
        except ConditionFailed:
            return False
        return True

    def find_rule(self, rule_id: str) -> RuleRecord | None:
        """See `RetrainingStore`."""
        item = self._get(keys.rule_key(rule_id)) if is_id(rule_id) else None
        return None if item is None else record_of(RuleRecord, item)

    def get_rule(self, tenant: str, rule_id: str) -> RuleRecord | None:
        """See `RetrainingStore`."""
        rule = self.find_rule(rule_id)
        return rule if rule is not None and rule.tenant == tenant and rule.deleted_at is None else None

    def list_rules(self, tenant: str, *, after: str | None, limit: int) -> Page[RuleRecord]:
        """See `RetrainingStore`."""
        start = None
        if after is not None:
            rule = self.get_rule(tenant, after)
            if rule is None:
                raise unknown_cursor(after)
            start = {":after": text(moment(rule.created_at, rule.id))}
        found = self._listed(keys.rules_of(tenant), start, limit, ascending=False)
        return page_of([record_of(RuleRecord, item) for item in found], limit)

    def rules_of_bucket(self, bucket: str) -> Iterator[RuleRecord]:
        """See `RetrainingStore`."""
        found = self._query(
            None,
            IndexName=items.BY_STATUS,
            KeyConditionExpression="gsi3pk = :partition",
            ExpressionAttributeValues={":partition": text(keys.bucket_rules(bucket))},
        )
        return readable(RuleRecord, map(_named, found))

    def active_rules(self) -> Iterator[RuleRecord]:
        """See `RetrainingStore`."""
        return readable(RuleRecord, map(_named, self._in_flight(keys.ACTIVE_RULES)))

    def replace_rule(self, before: RuleRecord, rule: RuleRecord) -> None:
        """See `RetrainingStore`."""
        token = new_token()
        self._transact([_rule_write(before, rule, token)], token)

    def record_arrival(self, arrival: Arrival) -> Arrival:
        """See `RetrainingStore`."""
        item = keys.arrival_item(arrival)
        try:
            call(self._client.put_item, TableName=self._table, Item=item, ConditionExpression=_NEW)
        except ConditionFailed:
            return self.get_arrival(arrival.rule_id, arrival.uri, arrival.version_id) or arrival
        return arrival

    def commit_arrivals(self, before: RuleRecord, rule: RuleRecord, arrivals: tuple[Arrival, ...]) -> None:
        """See `RetrainingStore`."""
        if len(arrivals) > MOST_ARRIVALS:
            raise ValueError(f"one change takes {MOST_ARRIVALS} arrivals at most, not {len(arrivals)}")
        token = new_token()
        made = [item for arrival in arrivals for item in keys.arrival_items(arrival)]
        self._transact([_rule_write(before, rule, token), *(put(item, rule.id) for item in made)], token)

    def get_arrival(self, rule_id: str, uri: str, version_id: str) -> Arrival | None:
        """See `RetrainingStore`."""
        item = self._get(keys.arrival_key(rule_id, uri, version_id)) if is_id(rule_id) else None
        return None if item is None else record_of(Arrival, item)

    def arrivals_of_object(self, rule_id: str, uri: str) -> tuple[Arrival, ...]:
        """See `RetrainingStore`."""
        return self._begun_with(rule_id, keys.object_name(uri))

    def arrivals_of_bytes(self, rule_id: str, sha256: str) -> tuple[Arrival, ...]:
        """See `RetrainingStore`."""
        return self._begun_with(rule_id, keys.bytes_name(sha256))

    def accepted_arrivals(self, rule_id: str, *, after: int, through: int) -> Iterator[Arrival]:
        """See `RetrainingStore`."""
        if after >= through or not is_id(rule_id):
            return iter(())
        first, last = keys.accepted_key(rule_id, after + 1), keys.accepted_key(rule_id, through)
        found = self._query(
            None,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :first AND :last",
            ExpressionAttributeValues={":pk": first["pk"], ":first": first["sk"], ":last": last["sk"]},
            ConsistentRead=True,
        )
        return (record_of(Arrival, item) for item in found)

    def list_arrivals(
        self, tenant: str, rule_id: str, *, after: str | None, limit: int, state: ArrivalState | None = None
    ) -> Page[Arrival]:
        """See `RetrainingStore`."""
        start = None
        if after is not None:
            known = self.get_arrival(rule_id, *split_cursor(after))
            if known is None or known.tenant != tenant:
                raise unknown_cursor(after)
            start = {":after": text(keys.arrival_moment(known))}
        partition = keys.arrivals_of(tenant, rule_id, state)
        index = items.BY_TENANT if state is None else items.BY_STATUS
        found = self._listed(partition, start, limit, ascending=False, index=index)
        return page_of([record_of(Arrival, item) for item in found], limit)

    def waiting_arrivals(self, arrived_before: float) -> Iterator[Arrival]:
        """See `RetrainingStore`."""
        return readable(Arrival, map(_named, self._in_flight(keys.ARRIVED, before=arrived_before)))

    def begin_retraining(self, before: RuleRecord, rule: RuleRecord, retraining: Retraining) -> None:
        """See `RetrainingStore`."""
        token = new_token()
        new = put(keys.retraining_item(retraining.with_(version=1), token), rule.id, _NEW)
        self._transact([_rule_write(before, rule, token), new], token)

    def commit_retraining(
        self, before: Retraining, retraining: Retraining, rules: tuple[RuleRecord, RuleRecord] | None = None
    ) -> None:
        """See `RetrainingStore`."""
        token = new_token()
        item = keys.retraining_item(retraining.with_(version=before.version + 1), token)
        writes = [_guarded(item, f"{before.rule_id}/{before.number}", before.version)]
        self._transact([*writes, *([] if rules is None else [_rule_write(*rules, token)])], token)

    def get_retraining(self, tenant: str, rule_id: str, number: int) -> Retraining | None:
        """See `RetrainingStore`."""
        item = self._get(keys.retraining_key(rule_id, number)) if is_id(rule_id) and number > 0 else None
        return None if item is None or not is_of(item, tenant) else record_of(Retraining, item)

    def list_retrainings(self, tenant: str, rule_id: str, *, after: int, limit: int) -> Page[Retraining]:
        """See `RetrainingStore`."""
        if not is_id(rule_id):
            return page_of((), limit)
        found = self._newest_first(partial(keys.retraining_key, rule_id), after, limit)
        return page_of([record_of(Retraining, item) for item in found if is_of(item, tenant)], limit)

    def _begun_with(self, rule_id: str, name: str) -> tuple[Arrival, ...]:
        """The arrivals of a rule whose items' sort keys begin so, the first to arrive first."""
        if not is_id(rule_id):
            return ()
        found = self._query(
            None,
            KeyConditionExpression="pk = :pk AND begins_with(sk, :name)",
            ExpressionAttributeValues={":pk": keys.rule_key(rule_id)["pk"], ":name": text(name)},
            ConsistentRead=True,
        )
        return tuple(sorted((record_of(Arrival, item) for item in found), key=keys.arrival_moment))


def _rule_write(before: RuleRecord, rule: RuleRecord, token: str) -> Write:
    if before.id != rule.id or before.tenant != rule.tenant:
        raise ValueError(f"a change of {before.tenant}'s rule {before.id} cannot write {rule.tenant}'s {rule.id}")
    return _guarded(keys.rule_item(rule.with_(version=before.version + 1), token), rule.id, before.version)


def _guarded(item: Item, name: str, version: int) -> Write:
    return put(item, name, _UNCHANGED, ExpressionAttributeValues={":version": number(version)})


def _named(item: Item) -> tuple[str, bytes]:
    return f"{item['pk']['S']} {item['sk']['S']}", body_of(item)
