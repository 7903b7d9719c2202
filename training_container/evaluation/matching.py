"""How an answer compares with its reference: each measure is a share from 0 to 1, or None where it says nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator


def exact_match(answer: str, reference: str) -> float:
    """1 where they are equal but for white space around them."""
    return float(answer.strip() == reference.strip())


def json_valid(answer: str, reference: str) -> float | None:
    """1 where the answer is JSON of the reference's kind; None where the reference is no JSON object or array."""
    wanted = _structure(reference)
    return None if wanted is None else float(type(_structure(answer)) is type(wanted))


def json_keys(answer: str, reference: str) -> float | None:
    """1 where the answer has the reference's keys at every depth, no more and no less; None as for `json_valid`."""
    wanted = _structure(reference)
    if wanted is None:
        return None
    given = _structure(answer)
    return float(type(given) is type(wanted) and set(_paths(given)) == set(_paths(wanted)))


def _structure(text: str) -> dict[str, object] | list[object] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict | list) else None


def _paths(value: object, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Keys with those above them; items of an array count as one, as its length is content."""
    if isinstance(value, list):
        for item in value:
            yield from _paths(item, (*above, "[]"))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield (*above, key)
            yield from _paths(item, (*above, key))
