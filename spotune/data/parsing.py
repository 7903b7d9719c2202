"""From one line to a JSON object, or a fault that says why not."""

from __future__ import annotations

import json
from typing import NoReturn

from spotune.data.faults import FaultList
from spotune.data.lines import MAX_LINE_BYTES, Line

Row = dict[str, object]


def parse_line(line: Line, faults: FaultList) -> Row | None:
    """The line's JSON object; None, and one fault, where it has none."""
    try:
        return _parse(line)
    except _LineRefused as refused:
        faults.add(line.number, refused.field, refused.rule, str(refused))
        return None


class _LineRefused(Exception):
    def __init__(self, rule: str, message: str, field: str = "") -> None:
        super().__init__(message)
        self.rule = rule
        self.field = field


def _parse(line: Line) -> Row:
    if line.length > MAX_LINE_BYTES:
        raise _LineRefused("line_too_long", f"the line has {line.length:,} bytes; {MAX_LINE_BYTES:,} is the limit")
    if b"\0" in line.content:
        raise _LineRefused("nul_byte", f"byte {line.content.index(0) + 1} of the line is NUL")
    try:
        text = line.content.decode()
        value = _DECODER.decode(text)
    except UnicodeDecodeError as error:
        raise _not_utf8(error, line) from error
    except RecursionError as error:
        raise _LineRefused("nested_too_deeply", "the row nests lists or objects too deeply") from error
    except ValueError as error:
        raise _malformed(error, text, line) from error
    if not isinstance(value, dict):
        raise _LineRefused("not_an_object", f"the row is a JSON {_JSON_NAMES[type(value)]}, not an object")
    return value


def _not_utf8(error: UnicodeDecodeError, line: Line) -> _LineRefused:
    if error.reason == "unexpected end of data" and not line.ended:
        return _truncated(line)
    at = f"byte {error.start + 1} of the line (0x{line.content[error.start]:02x})"
    return _LineRefused("invalid_utf8", f"{at} is not valid UTF-8")


def _malformed(error: ValueError, text: str, line: Line) -> _LineRefused:
    """json raises a plain ValueError for integers of more than 4,300 digits, with a text about Python."""
    if not isinstance(error, json.JSONDecodeError):
        return _LineRefused("malformed_json", "the row holds a number of too many digits")
    written = text.strip()
    open_end = not written.endswith("}") or error.pos >= len(text) or error.msg.startswith("Unterminated string")
    if not line.ended and written.startswith("{") and open_end:
        return _truncated(line)
    what = error.msg[:1].lower() + error.msg[1:]
    return _LineRefused("malformed_json", f"the line is not valid JSON: {what}, at character {error.pos + 1}")


def _truncated(line: Line) -> _LineRefused:
    return _LineRefused("truncated_json", f"the file ends in the middle of this row, {line.length:,} bytes into it")


def _distinct(pairs: list[tuple[str, object]]) -> Row:
    row = dict(pairs)
    if len(row) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _LineRefused("duplicate_key", f"the key {clip(twice)} is there twice", field=clip(twice, quote=False))
    return row


def _refuse_constant(name: str) -> NoReturn:
    raise _LineRefused("not_a_number", f"{name} is not JSON")


def clip(text: str, *, quote: bool = True, width: int = 60) -> str:
    """A name or value from the file, short and printable enough for a message."""
    short = text if len(text) <= width else text[: width - 1] + "…"
    shown = json.dumps(short, ensure_ascii=not short.isprintable())
    return shown if quote else shown[1:-1]


_DECODER = json.JSONDecoder(object_pairs_hook=_distinct, parse_constant=_refuse_constant)
_JSON_NAMES: dict[type, str] = {
    list: "array",
    str: "string",
    int: "number",
    float: "number",
    bool: "boolean",
    type(None): "null",
}
