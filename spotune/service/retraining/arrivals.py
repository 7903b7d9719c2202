"""New data in S3: each object version is recorded once for each rule that watches it, checked, and counted.

Events come at least once and in any order. A delivery that was cut off anywhere comes again and finds what it left: the
arrival is recorded before its file is read, and what is decided of it is one transaction with its rule
(`settling.settle`). One file that cannot be read holds up no other: its message alone fails.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache

from spotune.contracts.landings import Landing, parse_landing
from spotune.contracts.layout import split_uri
from spotune.contracts.rules import Arrival, RuleRecord
from spotune.contracts.subject import about
from spotune.retraining.patterns import compiled, ignored
from spotune.service.installation import Installation
from spotune.service.retraining.listings import look_at, named_by, named_until
from spotune.service.retraining.looks import record
from spotune.service.retraining.settling import Deleted, Gone, Outcome, settle
from spotune.service.retraining.sources import may_feed

logger = logging.getLogger(__name__)


def take(here: Installation, bodies: Mapping[str, str]) -> list[str]:
    """Take in the events of a batch.

    Args:
        bodies: EventBridge's events as JSON, by the ids of their messages.

    Returns:
        The ids of those that are to come again.
    """
    failed: set[str] = set()
    outcomes: defaultdict[str, list[Outcome]] = defaultdict(list)
    waiting: defaultdict[str, set[str]] = defaultdict(set)
    rules_of = cache(lambda bucket: tuple(here.store.rules_of_bucket(bucket)))
    for landing, message_ids in _read(bodies, failed).items():
        with about(message_id=message_ids[0]):
            try:
                for rule in _watching(here, rules_of(split_uri(landing.uri)[0]), landing.uri):
                    waiting[rule.id].update(message_ids)
                    with about(rule=rule.id, tenant=rule.tenant):
                        outcomes[rule.id] += _of_rule(here, rule, landing)
            except Exception as error:  # whatever is wrong with one, the others have their turn
                logger.exception("the event is delivered again: %s", type(error).__name__)
                failed.update(message_ids)
    for rule_id, found in outcomes.items():
        with about(rule=rule_id):
            try:
                settle(here, rule_id, found)
            except Exception as error:
                logger.exception("%d arrivals are delivered again: %s", len(found), type(error).__name__)
                failed |= waiting[rule_id]
    return [message_id for message_id in bodies if message_id in failed]


def _read(bodies: Mapping[str, str], failed: set[str]) -> dict[Landing, list[str]]:
    """The changes that a batch tells of, each once, with the messages that tell it."""
    landings: defaultdict[Landing, list[str]] = defaultdict(list)
    for message_id, body in bodies.items():
        with about(message_id=message_id):
            try:
                landings[parse_landing(json.loads(body))].append(message_id)
            except ValueError as error:
                logger.exception("the message is no event of S3: %s", type(error).__name__)
                failed.add(message_id)
    return landings


def _watching(here: Installation, rules: Iterable[RuleRecord], uri: str) -> Iterator[RuleRecord]:
    """The rules whose new data an object is. Of one that its tenant may not read, or that we wrote, there is none."""
    for rule in rules:
        if compiled(rule.request.source.uri).matches(uri) and may_feed(here, rule.tenant, uri):
            yield rule


def _of_rule(here: Installation, rule: RuleRecord, landing: Landing) -> Iterable[Outcome]:
    if landing.kind == "created":
        return _created(here, rule, landing)
    if landing.kind == "deleted" and (landing.version_id or _has_versions(here, rule, landing.uri)):
        return _versions_gone(here, rule, landing)
    deletion = _record_of(rule, landing, landing.version_id or f"deletion-{landing.sequencer}", "deletion")
    return [*named_until(here, rule, deletion), Deleted(deletion)]


def _created(here: Installation, rule: RuleRecord, landing: Landing) -> Iterator[Outcome]:
    if why := ignored(landing.uri, landing.bytes):
        logger.info("no data: %s", why)
        return
    version_id = landing.version_id or _pinned(here, landing)
    if not version_id:
        logger.info("replaced or deleted before it was looked at")
        return
    arrival = record(here, _record_of(rule, landing, version_id, "arrived"))
    if arrival is not None:
        yield from look_at(here, rule, arrival)


def _pinned(here: Installation, landing: Landing) -> str:
    """What stands for the version of an event that names none: the id of the version that is there, its ETag where the
    bucket keeps none. Empty where another object is there by now: its own event tells of it."""
    found = here.objects.head(landing.uri)
    if found is None or found.etag != landing.etag:
        return ""
    return found.version_id or found.etag


def _has_versions(here: Installation, rule: RuleRecord, uri: str) -> bool:
    known = here.store.arrivals_of_object(rule.id, uri)
    return any(one.state != "deletion" and one.version_id != one.etag for one in known)


def _versions_gone(here: Installation, rule: RuleRecord, landing: Landing) -> Iterator[Outcome]:
    """A version was deleted for good. Where the event does not say which, S3 does."""
    if landing.version_id:
        version = here.store.record_arrival(_record_of(rule, landing, landing.version_id, "gone"))
        yield from (*named_by(here, rule, version), Gone(version))
        return
    for one in here.store.arrivals_of_object(rule.id, landing.uri):
        if one.state not in ("deletion", "gone") and here.objects.head(one.uri, version_id=one.version_id) is None:
            yield from (*named_by(here, rule, one), Gone(one))


def _record_of(rule: RuleRecord, landing: Landing, version_id: str, state: str) -> Arrival:
    return Arrival.model_validate(
        {
            "rule_id": rule.id,
            "tenant": rule.tenant,
            "uri": landing.uri,
            "version_id": version_id,
            "etag": landing.etag,
            "sequencer": landing.sequencer,
            "bytes": landing.bytes,
            "arrived_at": landing.at,
            "state": state,
        }
    )
