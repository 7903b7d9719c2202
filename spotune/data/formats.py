"""The four row formats: which one a row has, and what must be true of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from spotune.contracts.dataset import RowFormat
from spotune.data.chat import read_messages
from spotune.data.faults import FaultList
from spotune.data.labels import LABELS, labelled
from spotune.data.lines import BOM, Line, look_at, read_head, split_lines
from spotune.data.parsing import Row, clip, parse_line
from spotune.data.rows import Example, Message
from spotune.data.strings import read_string

__all__ = ["FaultList", "read_examples"]

FIELDS: dict[RowFormat, frozenset[str]] = {
    "chat": frozenset({"messages"}),
    "instruction": frozenset({"instruction", "input", "output"}),
    "completion": frozenset({"prompt", "completion"}),
    "text": frozenset({"text"}),
}
OPTIONAL_FIELDS = frozenset({"input"})

_HINTS = {
    "conversations": "Rename it to `messages`, and `from`/`value` to `role`/`content`.",
    "tools": "Tool calls cannot be trained on yet: remove the field.",
    "functions": "Tool calls cannot be trained on yet: remove the field.",
    "parallel_tool_calls": "Tool calls cannot be trained on yet: remove the field.",
    "question": "Rename it to `prompt`, and the answer to `completion`.",
    "response": "Rename it to `completion` (beside `prompt`) or `output` (beside `instruction`).",
}


def read_examples(chunks: Iterable[bytes], faults: FaultList) -> Iterator[Example]:
    """Each good row of a JSONL stream, in order; each bad one becomes a fault.

    Bad data never raises. Memory is bounded by one chunk and one line. Reading stops early only where the first bytes
    show that the file is no JSONL at all.
    """
    head, stream = read_head(chunks)
    if seen := look_at(head):
        faults.add(0, "", *seen)
        return
    for line in _filled_lines(stream, faults):
        row = parse_line(line, faults)
        example = None if row is None else _read_row(row, line, faults)
        if example is not None:
            faults.rows += 1
            yield example
    if not faults.rows and not faults.count:
        faults.add(0, "", "empty_file", "the file has no rows")


def _filled_lines(stream: Iterator[bytes], faults: FaultList) -> Iterator[Line]:
    """Lines with something on them. Blank ones at the end are let be; others are faults."""
    first_blank = 0
    for line in split_lines(stream):
        if line.number == 1 and line.content.startswith(BOM):
            faults.add(1, "", "utf8_bom", "the file begins with a UTF-8 byte order mark")
            line = line._replace(content=line.content.removeprefix(BOM), length=line.length - len(BOM))
        if not line.content.strip() and line.length == len(line.content):
            first_blank = first_blank or line.number
            continue
        if first_blank:
            for number in range(first_blank, line.number):
                faults.add(number, "", "blank_line", "the line is blank")
            first_blank = 0
        yield line


def _read_row(row: Row, line: Line, faults: FaultList) -> Example | None:
    row_format = _recognise(row, line.number, faults)
    if row_format is None:
        return None
    before = faults.count
    example = _READERS[row_format](row, line, faults)
    if faults.count > before or example is None:
        return None
    example = labelled(example, row, line.number, faults)
    if faults.count > before:
        return None
    faults.format = faults.format or row_format
    if row_format != faults.format:
        message = f"the row has the {row_format} format; the rows before it have the {faults.format} format"
        faults.add(line.number, "", "mixed_formats", message)
        return None
    return example


def _recognise(row: Row, number: int, faults: FaultList) -> RowFormat | None:
    """The row's format; None, and faults, where its keys are not those of exactly one."""
    formats = [name for name, fields in FIELDS.items() if not fields.isdisjoint(row)]
    if len(formats) > 1:
        keys = ", ".join(key for name in formats for key in sorted(FIELDS[name] & row.keys()))
        faults.add(number, "", "ambiguous_row", f"the row has fields of {len(formats)} formats: {keys}")
        return None
    if not formats:
        keys = ", ".join(clip(key) for key in list(row)[:8]) or "none"
        hint = next((_HINTS[key] for key in row if key in _HINTS), "")
        faults.add(number, "", "unknown_format", f"the row's fields are of no known format: {keys}", hint)
        return None
    expected = FIELDS[formats[0]]
    if missing := sorted(expected - OPTIONAL_FIELDS - row.keys()):
        faults.add(number, missing[0], "missing_field", f"the row has no {' and no '.join(missing)}")
        return None
    if unknown := [key for key in row if key not in expected | LABELS]:
        names = ", ".join(clip(key) for key in unknown[:8])
        hint = next((_HINTS[key] for key in unknown if key in _HINTS), "")
        message = f"the {formats[0]} format has no field {names}"
        faults.add(number, clip(unknown[0], quote=False), "unknown_field", message, hint)
        return None
    return formats[0]


def _read_chat(row: Row, line: Line, faults: FaultList) -> Example | None:
    messages = read_messages(row["messages"], line.number, faults)
    return Example(line.number, "chat", messages=messages, size=line.length)


def _read_instruction(row: Row, line: Line, faults: FaultList) -> Example | None:
    """The instruction, a blank line and the input are the user's turn; a blank line ends it where there is no chat."""
    instruction = read_string(row["instruction"], "instruction", line.number, faults)
    given = read_string(row.get("input", ""), "input", line.number, faults, may_be_empty=True)
    output = read_string(row["output"], "output", line.number, faults)
    asked = f"{instruction}\n\n{given}" if given else instruction
    messages = (Message("user", asked), Message("assistant", output))
    return Example(line.number, "instruction", messages, prompt=f"{asked}\n\n", completion=output, size=line.length)


def _read_completion(row: Row, line: Line, faults: FaultList) -> Example | None:
    prompt = read_string(row["prompt"], "prompt", line.number, faults)
    completion = read_string(row["completion"], "completion", line.number, faults)
    return Example(line.number, "completion", prompt=prompt, completion=completion, size=line.length)


def _read_text(row: Row, line: Line, faults: FaultList) -> Example | None:
    text = read_string(row["text"], "text", line.number, faults)
    return Example(line.number, "text", text=text, size=line.length)


_READERS = {
    "chat": _read_chat,
    "instruction": _read_instruction,
    "completion": _read_completion,
    "text": _read_text,
}
