"""The way of most rows: a chat of nothing but roles and contents, read in a few steps.

Everything else, right or wrong, is left to the rules of `formats`, which would read these rows the same, only slower.
"""

from __future__ import annotations

import json
from functools import lru_cache
from itertools import pairwise
from typing import Any

from spotune.data.chat import MAX_MESSAGES
from spotune.data.rows import Example, Message
from spotune.data.strings import is_unicode

_FOLLOWERS = {
    "": frozenset({"system", "user"}),
    "system": frozenset({"user"}),
    "user": frozenset({"user", "assistant"}),
    "assistant": frozenset({"user"}),
}
"""Roles that may come after a role; the empty one stands before the first."""

_scan = json.JSONDecoder(object_pairs_hook=tuple).scan_once  # type: ignore[attr-defined]
"""Objects become tuples of their pairs, so that a key that is there twice is seen."""
_OBJECTS = {tuple}


def read_plain_chat(content: bytes, number: int) -> Example | None:
    """The example of a line; None where the line is anything but a faultless plain chat."""
    try:
        text = content.decode()
        value, end = _scan(text, 0)
        ((key, turns),) = value
        if key != "messages" or type(turns) is not list or text[end:].strip(" \t\r"):
            return None
        messages = _messages(turns)
    except (ValueError, TypeError, RecursionError, StopIteration):
        return None
    return Example(number, "chat", messages, size=len(content)) if messages else None


def _messages(turns: list[Any]) -> tuple[Message, ...]:
    """The chat's messages; none where something is not plain.

    Raises:
        TypeError, ValueError: the same.
    """
    if set(map(type, turns)) != _OBJECTS:
        return ()
    pairs = [(role, said) for (one, role), (two, said) in turns if one == "role" and two == "content"]
    if len(pairs) < len(turns):
        return ()
    roles, contents = zip(*pairs, strict=True)
    together = "\0".join(contents)
    whole = all(map(str.strip, contents)) and together.count("\0") == len(contents) - 1 and is_unicode(together)
    return tuple(map(Message, roles, contents)) if whole and _in_order(roles) else ()


@lru_cache(maxsize=1024)
def _in_order(roles: tuple[str, ...]) -> bool:
    """True where each turn may follow the one before it, and the assistant has the last word."""
    orderly = all(role in _FOLLOWERS.get(before, ()) for before, role in pairwise(("", *roles)))
    return orderly and roles[-1] == "assistant" and len(roles) <= MAX_MESSAGES
