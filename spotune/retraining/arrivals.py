"""What becomes of arrivals: taken, repeated, overtaken by a later version, deleted, set aside and given back.

Each function answers a `Change`: the rule, and those of its arrivals that change with it, to be written together
(`store.commit_arrivals`). Where nothing changes, at a second delivery for example, the change is empty.

Whoever calls one reads the rule first and then its arrivals: the rule's version guards them all.

Among the versions of one key the sequencer decides, whatever the order of events. One that is overtaken or deleted
counts no more, even where a retraining has it: what that was trained on stands in its manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from spotune.contracts.base import Timestamp
from spotune.contracts.dataset import RowFormat
from spotune.contracts.rules import Arrival, RuleRecord

STANDING = ("accepted", "set_aside", "duplicate")
"""States of arrivals whose object is there as far as we know, and whose rows count or may yet."""

OfBytes = Callable[[str], Sequence[Arrival]]
"""Which arrivals have this hash: `store.arrivals_of_bytes` of the rule."""


@dataclass(frozen=True, slots=True)
class Change:
    """A rule, and which of its arrivals change with it."""

    rule: RuleRecord
    arrivals: tuple[Arrival, ...] = ()

    @property
    def empty(self) -> bool:
        """True where nothing has to be written."""
        return not self.arrivals


@dataclass(frozen=True, slots=True)
class Checked:
    """What a good file holds."""

    sha256: str
    rows: int
    hashes_uri: str
    format: RowFormat


def later(one: Arrival, other: Arrival) -> bool:
    """True where the first of two versions of a key is the later.

    Source: Amazon S3, "Event message structure": to compare sequencers of different lengths, pad the shorter one with
    zeros on its right.
    """
    if not one.sequencer or not other.sequencer:
        return one.arrived_at > other.arrived_at
    width = max(len(one.sequencer), len(other.sequencer))
    return one.sequencer.upper().ljust(width, "0") > other.sequencer.upper().ljust(width, "0")


def other_format(rule: RuleRecord, checked: Checked) -> str:
    """Why a good file is none for this rule, in words; empty where it is. Quarantine it then.

    The first file that counts says which format the rule's files have, as long as nothing was trained and it counts.
    """
    settled = rule.row_format if rule.retrainings or rule.pending_rows else None
    if settled in (None, checked.format):
        return ""
    return f"Its rows are of the {checked.format} format, and those of the rule's files of the {settled} format."


def accept(
    rule: RuleRecord,
    arrival: Arrival,
    checked: Checked,
    same_object: Sequence[Arrival],
    of_bytes: OfBytes,
    now: Timestamp,
) -> Change:
    """A good file of the rule's format: new data, a duplicate, or overtaken already. A second time changes nothing.

    Args:
        arrival: as it is stored.
        same_object: all arrivals of its key (`store.arrivals_of_object`).
    """
    if arrival.state != "arrived":
        return Change(rule)
    known = arrival.with_(sha256=checked.sha256, rows=checked.rows, hashes_uri=checked.hashes_uri)
    others = [one for one in same_object if one.version_id != arrival.version_id]
    if after := _overtaker(arrival, others):
        return Change(rule, (_overtaken(known, after),))
    rule = rule.with_(row_format=checked.format)
    twin = next((one for one in of_bytes(checked.sha256) if one.state in ("accepted", "set_aside")), None)
    # The same bytes under the same key stand for each other: the first of them goes on counting.
    fallen = [one for one in others if one.state in STANDING and not (twin and _same(one, twin))]
    falling = [_overtaken(one, arrival) for one in fallen]
    if twin is not None:
        reason = f"the same bytes as {twin.uri} (version {twin.version_id})"
        repeated = known.with_(state="duplicate", reason=reason)
        return _fall(rule, fallen, falling, of_bytes, now, beside=(repeated,))
    return _fall(rule, fallen, falling, of_bytes, now, new=(known,))


def list_others(rule: RuleRecord, arrival: Arrival, same_object: Sequence[Arrival], reason: str) -> Change:
    """A file that stands for others, which arrive by themselves: it has no rows. An earlier version of it is overtaken.

    Args:
        same_object: as in `accept`.
    """
    if arrival.state != "arrived":
        return Change(rule)
    others = [one for one in same_object if one.version_id != arrival.version_id]
    if after := _overtaker(arrival, others):
        return Change(rule, (_overtaken(arrival, after),))
    earlier = [_overtaken(one, arrival) for one in others if one.state == "listed"]
    return Change(rule, (arrival.with_(state="listed", reason=reason), *earlier))


def quarantine(rule: RuleRecord, arrival: Arrival, reason: str, report_uri: str | None = None) -> Change:
    """A file that cannot be trained on. What it would have replaced goes on counting."""
    if arrival.state != "arrived":
        return Change(rule)
    return Change(rule, (arrival.with_(state="quarantined", reason=reason, report_uri=report_uri),))


def delete_object(
    rule: RuleRecord, deletion: Arrival, same_object: Sequence[Arrival], of_bytes: OfBytes, now: Timestamp
) -> Change:
    """A key was deleted: its versions until then count no more.

    Args:
        deletion: in state `deletion`, under the version id of the delete marker; under one made of the sequencer where
            the bucket keeps no versions.
    """
    known = any(one.version_id == deletion.version_id for one in same_object)
    fallen = [one for one in same_object if one.state in (*STANDING, "listed") and later(deletion, one)]
    falling = [_gone(one) for one in fallen]
    return _fall(rule, fallen, falling, of_bytes, now, beside=() if known else (deletion,))


def delete_version(rule: RuleRecord, arrival: Arrival, of_bytes: OfBytes, now: Timestamp) -> Change:
    """One version was deleted for good: it counts no more. Of others of its key it says nothing.

    Args:
        arrival: as it is stored; one that was never heard of is recorded in state `gone` by the caller.
    """
    if arrival.state not in ("arrived", "listed", *STANDING):
        return Change(rule)
    return _fall(rule, [arrival], [_gone(arrival)], of_bytes, now)


def set_aside(rule: RuleRecord, arrivals: Iterable[Arrival], reason: str) -> Change:
    """The data of a retraining whose model was rejected: those of its arrivals that still count, until released."""
    taken = [one for one in arrivals if one.state == "accepted" and (one.sequence or 0) <= rule.claimed]
    return Change(rule, tuple(one.with_(state="set_aside", reason=reason) for one in taken))


def release(rule: RuleRecord, arrivals: Iterable[Arrival], now: Timestamp) -> Change:
    """Data that was set aside is new data again, under new sequences."""
    return _changed(rule, (), [one for one in arrivals if one.state == "set_aside"], now)


def _overtaker(arrival: Arrival, others: Iterable[Arrival]) -> Arrival | None:
    """What keeps this version from counting: a later good version, or that its key was deleted since."""
    decided = (*STANDING, "superseded", "deletion", "listed")
    return next((one for one in others if one.state in decided and later(one, arrival)), None)


def _overtaken(arrival: Arrival, after: Arrival) -> Arrival:
    if after.state == "deletion":
        return _gone(arrival)
    return arrival.with_(state="superseded", reason=f"version {after.version_id} came later")


def _gone(arrival: Arrival) -> Arrival:
    return arrival.with_(state="gone", reason="deleted")


def _fall(
    rule: RuleRecord,
    fallen: Sequence[Arrival],
    falling: Sequence[Arrival],
    of_bytes: OfBytes,
    now: Timestamp,
    *,
    beside: Sequence[Arrival] = (),
    new: Sequence[Arrival] = (),
) -> Change:
    """Arrivals count no more. A duplicate of one takes its place: as new data where that was accepted, and in its very
    place where that was set aside.

    Args:
        fallen, falling: as they were, and as they are from now on.
        beside: what else changes.
        new: what else is accepted.
    """
    changed, accepted = list(beside), list(new)
    for was, one in zip(fallen, falling, strict=True):
        heir = _heir(was, falling, of_bytes)
        if heir is not None and was.state == "set_aside":
            changed += [
                one.with_(sequence=None),
                heir.with_(state="set_aside", sequence=was.sequence, reason=was.reason),
            ]
            continue
        changed.append(one)
        accepted += [] if heir is None else [heir]
    return _changed(_without(rule, fallen), changed, accepted, now)


def _heir(was: Arrival, falling: Sequence[Arrival], of_bytes: OfBytes) -> Arrival | None:
    """The first duplicate of one that counted, or may have again."""
    if was.sha256 is None or was.state not in ("accepted", "set_aside"):
        return None
    repeats = (one for one in of_bytes(was.sha256) if one.state == "duplicate")
    return next((one for one in repeats if not any(_same(one, other) for other in falling)), None)


def _changed(rule: RuleRecord, changed: Iterable[Arrival], accepted: Iterable[Arrival], now: Timestamp) -> Change:
    """With these arrivals as they are, and these accepted as the rule's newest data."""
    taken = []
    for arrival in accepted:
        rule = rule.with_(
            sequence=rule.sequence + 1,
            pending_rows=rule.pending_rows + (arrival.rows or 0),
            pending_bytes=rule.pending_bytes + arrival.bytes,
            last_arrival_at=now,
        )
        taken.append(arrival.with_(state="accepted", sequence=rule.sequence, reason=""))
    return Change(rule, (*changed, *taken))


def _without(rule: RuleRecord, fallen: Iterable[Arrival]) -> RuleRecord:
    """A rule without what of these was pending. An exact count held for more than is left."""
    pending = [one for one in fallen if one.state == "accepted" and (one.sequence or 0) > rule.claimed]
    if not pending:
        return rule
    return rule.with_(
        pending_rows=rule.pending_rows - sum(one.rows or 0 for one in pending),
        pending_bytes=rule.pending_bytes - sum(one.bytes for one in pending),
        counted_through=0,
    )


def _same(one: Arrival, other: Arrival) -> bool:
    return (one.uri, one.version_id) == (other.uri, other.version_id)
