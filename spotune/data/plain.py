"""The way of most rows: a chat of nothing but roles and contents, read in a few steps.

Everything else, right or wrong, is left to the rules of `formats`, which would read these rows the same, only slower.
Such a row is also kept as it is as long as nobody asks for its messages: making them costs as much as reading it.
"""

from __future__ import annotations

import json
from functools import lru_cache
from itertools import chain, pairwise
from typing import Any, ClassVar

from spotune.data.chat import MAX_MESSAGES
from spotune.data.rows import Example, Message, content_bytes
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


class PlainChat:
    """A faultless plain chat. It can be read like its `Example`."""

    __slots__ = ("contents", "number", "roles", "size")
    slice: ClassVar[str] = ""
    choices: ClassVar[tuple[str, ...]] = ()
    tools: ClassVar[str] = ""
    label: ClassVar[bool | None] = None

    def __init__(self, number: int, size: int, roles: tuple[str, ...], contents: tuple[str, ...]) -> None:
        self.number = number
        self.size = size
        self.roles = roles
        self.contents = contents

    @property
    def messages(self) -> tuple[Message, ...]:
        """Made anew each time."""
        return tuple(map(Message, self.roles, self.contents))  # type: ignore[arg-type]


Checked = Example | PlainChat
"""A row without faults."""


def example_of(row: Checked) -> Example:
    """The row as everything else wants it."""
    return Example(row.number, "chat", row.messages, size=row.size) if isinstance(row, PlainChat) else row


def content_of(row: Checked) -> bytes:
    """The row's `content_bytes`."""
    if isinstance(row, Example):
        return content_bytes(row)
    parts = chain.from_iterable(zip(_marks(row.roles), row.contents, strict=True))
    return ("chat\0\0\0\0" + "\0".join(parts)).encode()


@lru_cache(maxsize=1024)
def _marks(roles: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{role}1" for role in roles)


def read_plain_chat(content: bytes, number: int) -> PlainChat | None:
    """The chat of a line; None where the line is anything but a faultless plain chat."""
    try:
        text = content.decode()
        value, end = _scan(text, 0)
        ((key, turns),) = value
        if key != "messages" or type(turns) is not list or text[end:].strip(" \t\r"):
            return None
        roles, contents = _turns(turns)
    except (ValueError, TypeError, RecursionError, StopIteration):
        return None
    return PlainChat(number, len(content), roles, contents) if roles else None


def _turns(turns: list[Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Roles and contents; none where something is not plain.

    Raises:
        TypeError, ValueError: the same.
    """
    if set(map(type, turns)) != _OBJECTS:
        return (), ()
    pairs = [(role, said) for (one, role), (two, said) in turns if one == "role" and two == "content"]
    if len(pairs) < len(turns):
        return (), ()
    roles, contents = zip(*pairs, strict=True)
    together = "".join(contents)
    whole = all(map(str.strip, contents)) and "\0" not in together and is_unicode(together)
    return (roles, contents) if whole and _in_order(roles) else ((), ())


@lru_cache(maxsize=1024)
def _in_order(roles: tuple[str, ...]) -> bool:
    """True where each turn may follow the one before it, and the assistant has the last word."""
    orderly = all(role in _FOLLOWERS.get(before, ()) for before, role in pairwise(("", *roles)))
    return orderly and roles[-1] == "assistant" and len(roles) <= MAX_MESSAGES
