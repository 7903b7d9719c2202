"""Finds what no event told of a rule's files: objects that landed unheard, deletions, and checks that were cut off.

S3 is asked, a part at a time: one call looks at `SWEPT` keys after those of the call before, and at as many accepted
files. How far it has come lies beside the rule. Each object goes the way of an event's from then on, and so does what
lay there before the rule was made.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

from pydantic import ValidationError

from spotune.aws.base import ObjectMissing, ObjectVersion
from spotune.contracts import layout
from spotune.contracts.base import Contract, Seconds
from spotune.contracts.rules import Arrival, RuleRecord
from spotune.retraining.arrivals import STANDING
from spotune.retraining.patterns import compiled, ignored
from spotune.service.apart import apart
from spotune.service.files.reading import each
from spotune.service.installation import Installation
from spotune.service.retraining.file_checks import is_there
from spotune.service.retraining.listings import look_at, named_until
from spotune.service.retraining.looks import record
from spotune.service.retraining.settling import Deleted, Gone, Outcome, settle
from spotune.service.retraining.sources import may_feed

SWEPT = 1000
"""Keys of one call, and accepted files of it: some seconds of a function's time."""
READING: Seconds = 300
"""So long files that nobody had heard of are read in one call, at most; the next goes on after the last of them."""
SETTLED: Seconds = 900
"""How old a change has to be before its event counts as lost."""
CHECKING: Seconds = 960
"""A check that was begun is over by then: the functions' time limit, and a minute."""

logger = logging.getLogger(__name__)


class Place(Contract):
    """How far a sweep has come: the last key of the source, and the sequence of the last accepted file."""

    key: str = ""
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Swept:
    """What a call found."""

    found: int
    """Files that nobody had heard of, or that had changed unheard."""
    ended: bool
    """All of the source has been looked at: the next call begins anew."""


def sweep(here: Installation, rule: RuleRecord) -> Swept:
    """Look at the next part of a rule's files.

    Raises:
        Unavailable: S3 or the store does not answer; the next call begins at the same place.
    """
    place = _read_place(here, rule)
    key, landed = _landed(here, rule, place.key)
    sequence, lost = _lost(here, rule, place.sequence)
    outcomes = [*landed, *lost]
    settle(here, rule.id, outcomes)
    here.objects.write(_place_uri(here, rule), Place(key=key, sequence=sequence).model_dump_json().encode())
    if outcomes:
        logger.warning("%d changes of the files of rule %s were found by sweeping", len(outcomes), rule.id)
    return Swept(len(outcomes), not key and not sequence)


def check_again(here: Installation, rule: RuleRecord) -> int:
    """Check the files of a rule whose check was cut off; how many."""
    waiting = [one for one in here.store.waiting_arrivals(here.clock() - CHECKING) if one.rule_id == rule.id]
    for arrival in waiting[:SWEPT]:
        apart("the check of a file", partial(_check, here, rule, arrival), rule=rule.id)
    return len(waiting)


def _check(here: Installation, rule: RuleRecord, arrival: Arrival) -> None:
    settle(here, rule.id, list(look_at(here, rule, arrival)))


def _landed(here: Installation, rule: RuleRecord, after: str) -> tuple[str, list[Outcome]]:
    """The key that was looked at last, empty at the end, and what nobody had heard of."""
    pattern, outcomes, began = compiled(rule.request.source.uri), list[Outcome](), here.clock()
    versions = here.objects.versions(pattern.beginning, after=after)
    try:
        for number, one in enumerate((one for one in versions if one.latest), start=1):
            if pattern.matches(one.info.uri) and may_feed(here, rule.tenant, one.info.uri):
                outcomes += _outcomes(here, rule, one)
            if number == SWEPT or here.clock() - began > READING:
                return one.info.uri, outcomes
    except ObjectMissing as missing:
        logger.warning("the source of rule %s is not there: %s", rule.id, missing)
    return "", outcomes


def _outcomes(here: Installation, rule: RuleRecord, version: ObjectVersion) -> Iterator[Outcome]:
    info = version.info
    if rule.created_at <= info.modified and here.clock() - SETTLED < info.modified:
        return  # its event may still be on its way
    state = "deletion" if version.deleted else "arrived"
    found = Arrival.model_validate(
        {
            "rule_id": rule.id,
            "tenant": rule.tenant,
            "uri": info.uri,
            "version_id": info.version_id or info.etag,
            "etag": info.etag,
            "sequencer": "",
            "bytes": info.bytes,
            "arrived_at": info.modified,
            "state": state,
        }
    )
    if version.deleted:
        known = here.store.arrivals_of_object(rule.id, info.uri)
        if any(one.state in (*STANDING, "listed", "arrived") for one in known):
            yield from (*named_until(here, rule, found), Deleted(found))
    elif not ignored(info.uri, info.bytes):
        # Of one that is known the time of this look: whatever overtook it is not there any more.
        known_one = here.store.get_arrival(rule.id, info.uri, found.version_id)
        arrival = record(here, found if known_one is None else found.with_(arrived_at=here.clock()))
        if arrival is not None and (known_one is None or known_one.state != "arrived"):
            yield from look_at(here, rule, arrival)


def _lost(here: Installation, rule: RuleRecord, after: int) -> tuple[int, list[Outcome]]:
    """The sequence that was looked at last, 0 at the end, and which pending files are gone."""
    after = max(after, rule.claimed)
    page = list(islice(here.store.accepted_arrivals(rule.id, after=after, through=rule.sequence), SWEPT))
    pending = [one for one in page if one.state == "accepted"]
    there = each(partial(is_there, here), pending)
    gone: list[Outcome] = [Gone(one) for one, present in zip(pending, there, strict=True) if not present]
    return (page[-1].sequence or 0 if len(page) == SWEPT else 0), gone


def _read_place(here: Installation, rule: RuleRecord) -> Place:
    try:
        return Place.model_validate_json(here.objects.read(_place_uri(here, rule)))
    except (ObjectMissing, ValidationError):
        return Place()


def _place_uri(here: Installation, rule: RuleRecord) -> str:
    return layout.sweep_uri(layout.rule_uri(here.settings.data_bucket, rule.tenant, rule.id))
