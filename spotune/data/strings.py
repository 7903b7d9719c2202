"""What must be true of every string that a model is to see."""

from __future__ import annotations

from spotune.data.faults import FaultList


def read_string(value: object, field: str, line: int, faults: FaultList, *, may_be_empty: bool = False) -> str:
    """The value as text; the empty string, and a fault, where it is none that can be trained on."""
    if not isinstance(value, str):
        hint = "Content parts are not supported: join their text into one string." if isinstance(value, list) else ""
        faults.add(line, field, "not_a_string", f"{field} is {_name(value)}, not a string", hint)
        return ""
    if not may_be_empty and not value.strip():
        faults.add(line, field, "empty_content", f"{field} is empty")
        return ""
    if "\0" in value:
        faults.add(line, field, "nul_character", f"{field} holds a NUL character")
        return ""
    if not is_unicode(value):
        faults.add(line, field, "lone_surrogate", f"{field} holds half of a surrogate pair")
        return ""
    return value


def _name(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, list):
        return "a list"
    return "an object" if isinstance(value, dict) else "a number"


def is_unicode(value: str) -> bool:
    """False for half a surrogate pair, which JSON escapes can write and UTF-8 cannot."""
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
