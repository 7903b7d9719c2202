"""Items and keys of rules, their arrivals and their retrainings. See docs/store.md.

A rule's partition has all of it. An arrival is kept once by its object version, once more by its sequence and once more
by its bytes, each time whole, so that each is found by one consistent query. One transaction writes all three.
"""

from __future__ import annotations

import hashlib

from spotune.contracts.layout import split_uri
from spotune.contracts.rules import Arrival, ArrivalState, Retraining, RuleRecord
from spotune.store.items import Item, content, digits, indexed, number, text
from spotune.store.records import moment

ACTIVE_RULES = "RULES"
"""`gsi2pk` of the rules that may fire, or whose retraining has not ended."""
ARRIVED = "ARRIVED"
"""`gsi2pk` of the arrivals that nobody has looked into."""


def rule_key(rule_id: str) -> Item:
    """A rule's key. Its arrivals and its retrainings share the partition."""
    return {"pk": text(f"RULE#{rule_id}"), "sk": text("RULE")}


def rules_of(tenant: str) -> str:
    """`gsi1pk` of a tenant's rules."""
    return f"RULES#{tenant}"


def bucket_rules(bucket: str) -> str:
    """`gsi3pk` of the rules whose data lands in this bucket."""
    return f"RULES#{bucket}"


def rule_item(rule: RuleRecord, writer: str) -> Item:
    """A rule; a deleted one is in no list, though its retraining may go on."""
    item = rule_key(rule.id) | content(rule, rule.tenant)
    item |= {"version": number(rule.version), "writer": text(writer)}
    if rule.active:
        item |= indexed("gsi2", ACTIVE_RULES, rule.created_at, rule.id)
    if rule.deleted_at is not None:
        return item
    bucket, _ = split_uri(rule.request.source.uri)
    item |= indexed("gsi1", rules_of(rule.tenant), rule.created_at, rule.id)
    return item | indexed("gsi3", bucket_rules(bucket), rule.created_at, rule.id)


def retraining_key(rule_id: str, number_of_it: int) -> Item:
    """A retraining's key."""
    return {"pk": text(f"RULE#{rule_id}"), "sk": text(f"RETRAINING#{digits(number_of_it)}")}


def retraining_item(retraining: Retraining, writer: str) -> Item:
    """A retraining."""
    item = retraining_key(retraining.rule_id, retraining.number) | content(retraining, retraining.tenant)
    return item | {"version": number(retraining.version), "writer": text(writer)}


def object_name(uri: str) -> str:
    """What the sort keys of one object's arrivals begin with: a key alone may be as long as a sort key."""
    return f"ARRIVAL#{_hash(uri)}#"


def arrival_name(uri: str, version_id: str) -> str:
    """An arrival's sort key."""
    return object_name(uri) + _hash(version_id)


def arrival_key(rule_id: str, uri: str, version_id: str) -> Item:
    """An arrival's key."""
    return {"pk": text(f"RULE#{rule_id}"), "sk": text(arrival_name(uri, version_id))}


def accepted_key(rule_id: str, sequence: int) -> Item:
    """The key of the copy of an arrival that was given this sequence."""
    return {"pk": text(f"RULE#{rule_id}"), "sk": text(f"ACCEPTED#{digits(sequence)}")}


def bytes_name(sha256: str) -> str:
    """What the sort keys of all arrivals with these bytes begin with."""
    return f"BYTES#{sha256}#"


def arrivals_of(tenant: str, rule_id: str, state: ArrivalState | None = None) -> str:
    """`gsi1pk` of a rule's arrivals; `gsi3pk` of those in one state."""
    return f"ARRIVALS#{tenant}#{rule_id}" if state is None else f"ARRIVALS#{tenant}#{rule_id}#{state}"


def arrival_moment(arrival: Arrival) -> str:
    """Its place in every list: by time, then by rule and name."""
    return moment(arrival.arrived_at, f"{arrival.rule_id}#{arrival_name(arrival.uri, arrival.version_id)}")


def arrival_item(arrival: Arrival) -> Item:
    """An arrival by its object version."""
    rule_id, tenant = arrival.rule_id, arrival.tenant
    at = text(arrival_moment(arrival))
    item = arrival_key(rule_id, arrival.uri, arrival.version_id) | content(arrival, tenant)
    item |= {"gsi1pk": text(arrivals_of(tenant, rule_id)), "gsi1sk": at}
    item |= {"gsi3pk": text(arrivals_of(tenant, rule_id, arrival.state)), "gsi3sk": at}
    return item | ({"gsi2pk": text(ARRIVED), "gsi2sk": at} if arrival.state == "arrived" else {})


def arrival_items(arrival: Arrival) -> list[Item]:
    """An arrival, and its copies by sequence and by bytes where it has them."""
    made = [arrival_item(arrival)]
    copy = content(arrival, arrival.tenant)
    if arrival.sequence is not None:
        made.append(accepted_key(arrival.rule_id, arrival.sequence) | copy)
    if arrival.sha256 is not None:
        name = bytes_name(arrival.sha256) + arrival_name(arrival.uri, arrival.version_id)
        made.append({"pk": text(f"RULE#{arrival.rule_id}"), "sk": text(name)} | copy)
    return made


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]
