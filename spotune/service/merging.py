"""JSON merge patches (RFC 7396) of what a person asked for."""

from __future__ import annotations

from collections.abc import Mapping

NOTHING: Mapping[str, dict[str, object]] = {}


def merged(
    body: Mapping[str, object],
    changes: Mapping[str, object],
    *,
    levels: int,
    unset: Mapping[str, dict[str, object]] = NOTHING,
) -> dict[str, object]:
    """A body with changes put over it: groups merge, lists are replaced, null resets.

    Args:
        levels: of names at most; what lies deeper is replaced whole.
        unset: what changes of a group that the body has not are put over.
    """
    made = dict(body)
    for name, value in changes.items():
        if value is None and name in made:
            del made[name]
        elif isinstance(value, dict) and levels > 1:
            group = made.get(name)
            base = group if isinstance(group, dict) else unset.get(name, {})
            made[name] = merged(base, value, levels=levels - 1, unset=unset)
        else:
            made[name] = value
    return made
