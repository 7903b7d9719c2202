"""Arrivals against the truth: what lay in S3, and what lies there now."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from spotune.contracts.rules import Arrival, RuleRecord
from tests.faults.landing import Change, Landing

TAKEN = ("accepted", "set_aside")
"""States of an arrival whose rows count."""

Key = tuple[str, str]


def miscounted(rule: RuleRecord, arrivals: list[Arrival], s3: Landing) -> Iterator[str]:
    """Each object version once; one that was replaced before anybody saw it may be missing."""
    expected = _expected(rule, s3)
    counted = Counter(_key(one) for one in arrivals)
    yield from (f"counted {times} times: {key}" for key, times in counted.items() if times > 1)
    yield from (f"counted, and none of its data: {key}" for key in counted.keys() - expected.keys())
    present = {change.key for change in s3.present()}
    yield from (f"never counted: {key}" for key in (expected.keys() - counted.keys()) & present)


def misjudged(rule: RuleRecord, arrivals: list[Arrival], s3: Landing) -> Iterator[str]:
    """Each in the state that the truth gives it; no content that lies there now is left out, or is there twice."""
    expected = _expected(rule, s3)
    known = [(one, expected[_key(one)]) for one in arrivals if _key(one) in expected]
    bodies = Counter(change.body for one, change in known if one.state in TAKEN)
    yield from (f"the same bytes are taken {times} times" for times in bodies.values() if times > 1)
    for one, change in known:
        if words := _wrong_state(one, change, s3, pending=(one.sequence or 0) > rule.claimed):
            yield f"{one.uri} {one.version_id} is {one.state}: {words}"
    for change in s3.present():
        if change.key in expected and change.numbers and change.body not in bodies:
            yield f"{change.key} lies there, and no arrival with its bytes is taken"


def _expected(rule: RuleRecord, s3: Landing) -> dict[Key, Change]:
    """The object versions that are this rule's to count, as they came last."""
    pattern = _pattern(rule.request.source.uri)
    changes = (change for change in s3.changes if change.body and pattern.fullmatch(change.uri))
    return {change.key: change for change in changes if not _is_no_data(change.uri)}


def _wrong_state(one: Arrival, change: Change, s3: Landing, *, pending: bool) -> str:
    later = [other for other in s3.changes_of(one.uri) if other.sequencer > change.sequencer]
    match one.state:
        case "arrived":
            return "nobody has looked at it"
        case "accepted" | "set_aside" if change.numbers is None:
            return "it is no dataset"
        case "accepted" if pending and later and later[-1].body is None:
            return "it was deleted"
        case "quarantined" if change.numbers is not None:
            return f"there is nothing wrong with it, but {one.reason}"
        case "quarantined" if one.report_uri is None or s3.head(one.report_uri) is None:
            return "it has no report"
        # After what was seen: the same bytes may have come once more, and gone before anybody looked.
        case "superseded" if not any(other.body for other in s3.changes_of(one.uri) if other.sequencer > one.sequencer):
            return "no later version came"
        case "gone" if not later or (change.version_id and all(other.body is not None for other in later)):
            return "it was not deleted"
        case "duplicate" if sum(other.body == change.body for other in s3.changes) < 2:
            return "its bytes came once"
    return ""


def _key(one: Arrival) -> Key:
    return one.uri, one.version_id


def _pattern(uri: str) -> re.Pattern[str]:
    """The few wildcards that the histories' rules have."""
    words = {"/**/": "/(?:.*/)?", "**": ".*", "*": "[^/]*"}
    parts = re.split(r"(/\*\*/|\*\*|\*)", uri)
    return re.compile("".join(words.get(part) or re.escape(part) for part in parts), re.DOTALL)


def _is_no_data(uri: str) -> bool:
    name = uri.rpartition("/")[2]
    return not name or name[0] in "._" or "/_temporary/" in uri or name.endswith((".tmp", ".part", ".crc", "~"))
