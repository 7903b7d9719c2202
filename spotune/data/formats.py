"""The row formats: which one a row has, and what must be true of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from spotune.contracts.dataset import RowFormat
from spotune.contracts.request import Objective
from spotune.data.chat import read_chat
from spotune.data.faults import FaultList
from spotune.data.labels import LABELS, labelled
from spotune.data.lines import BOM, Line, look_at, read_head, split_lines
from spotune.data.parsing import Row, clip, parse_line
from spotune.data.plain import Checked, example_of, read_plain_chat
from spotune.data.preferences import read_labelled, read_pair
from spotune.data.rows import Example, Message
from spotune.data.strings import read_string
from spotune.data.tools import read_tools

__all__ = ["FaultList", "read_checked", "read_examples", "read_row", "read_rows"]

_TOOLS = frozenset({"tools", "parallel_tool_calls"})


@dataclass(frozen=True, slots=True)
class Shape:
    """The fields of a row. Several shapes may be of one format."""

    format: RowFormat
    required: frozenset[str]
    optional: frozenset[str] = frozenset()

    @property
    def fields(self) -> frozenset[str]:
        """All that such a row may have."""
        return self.required | self.optional


JUDGED = (
    Shape("preference", frozenset({"input", "preferred_output", "non_preferred_output"})),
    Shape("preference", frozenset({"prompt", "chosen", "rejected"}), _TOOLS),
    Shape("labelled", frozenset({"messages", "label"}), _TOOLS),
    Shape("labelled", frozenset({"prompt", "completion", "label"}), _TOOLS),
)
"""Recognised by the fields that judge, which no other row has."""
PLAIN = (
    Shape("chat", frozenset({"messages"}), _TOOLS),
    Shape("instruction", frozenset({"instruction", "output"}), frozenset({"input"})),
    Shape("completion", frozenset({"prompt", "completion"})),
    Shape("text", frozenset({"text"})),
)
"""Recognised by any field of theirs."""
_VERDICTS = frozenset({"preferred_output", "non_preferred_output", "chosen", "rejected", "label"})

OBJECTIVES: dict[Objective, frozenset[RowFormat]] = {
    "supervised": frozenset({"chat", "instruction", "completion", "text"}),
    "dpo": frozenset({"preference"}),
    "orpo": frozenset({"preference"}),
    "kto": frozenset({"labelled"}),
}
"""The formats that each objective learns from."""

_HINTS = {
    "conversations": "Rename it to `messages`, and `from`/`value` to `role`/`content`.",
    "functions": 'Write each as {"type": "function", "function": {...}} in `tools`.',
    "question": "Rename it to `prompt`, and the answer to `completion`.",
    "response": "Rename it to `completion` (beside `prompt`) or `output` (beside `instruction`).",
}


def read_examples(
    chunks: Iterable[bytes], faults: FaultList, objective: Objective | None = "supervised"
) -> Iterator[Example]:
    """Each good row of a JSONL stream, in order; each bad one becomes a fault.

    Bad data never raises. Memory is bounded by one chunk and one line. Reading stops early only where the first bytes
    show that the file is no JSONL at all. Rows of a format that the objective does not learn from are one fault; with
    None every format will do.
    """
    return map(example_of, read_checked(chunks, faults, objective))


def read_checked(
    chunks: Iterable[bytes], faults: FaultList, objective: Objective | None = "supervised"
) -> Iterator[Checked]:
    """The same rows, and those that are plain chats as such, for who seldom asks for their messages."""
    for line in _lines_of(chunks, faults):
        row = _read_line(line, faults)
        if row is not None:
            faults.rows += 1
            yield row
    if objective and faults.format and faults.format not in OBJECTIVES[objective]:
        _refuse_format(faults.format, objective, faults)
    if not faults.rows and not faults.count:
        faults.add(0, "", "empty_file", "the file has no rows")


def read_rows(chunks: Iterable[bytes], faults: FaultList) -> Iterator[tuple[Row, Line]]:
    """The JSON object of each line that has one, whatever its fields; each other line becomes a fault."""
    for line in _lines_of(chunks, faults):
        row = parse_line(line, faults)
        if row is not None:
            yield row, line


def _lines_of(chunks: Iterable[bytes], faults: FaultList) -> Iterator[Line]:
    """Lines with something on them; none, and a fault, where the first bytes show that the stream is no JSONL."""
    head, stream = read_head(chunks)
    if seen := look_at(head):
        faults.add(0, "", *seen)
    else:
        yield from _filled_lines(stream, faults)


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


def _read_line(line: Line, faults: FaultList) -> Checked | None:
    if faults.format in (None, "chat") and (plain := read_plain_chat(line.content, line.number)) is not None:
        faults.format = "chat"
        return plain
    row = parse_line(line, faults)
    return None if row is None else read_row(row, line, faults)


def read_row(row: Row, line: Line, faults: FaultList) -> Example | None:
    """A line's object as an example; None, and faults, where it is none, or of another format than those before."""
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
    shape = _shape_of(row, number, faults)
    if shape is None:
        return None
    if missing := sorted(shape.required - row.keys()):
        faults.add(number, missing[0], "missing_field", f"the row has no {' and no '.join(missing)}")
        return None
    if unknown := [key for key in row if key not in shape.fields | LABELS]:
        names = ", ".join(clip(key) for key in unknown[:8])
        hint = next((_HINTS[key] for key in unknown if key in _HINTS), "")
        message = f"the {shape.format} format has no field {names}"
        faults.add(number, clip(unknown[0], quote=False), "unknown_field", message, hint)
        return None
    return shape.format


def _shape_of(row: Row, number: int, faults: FaultList) -> Shape | None:
    if not _VERDICTS.isdisjoint(row):
        return max(JUDGED, key=lambda shape: (len(shape.required & row.keys()), -len(shape.required)))
    shapes = [shape for shape in PLAIN if not shape.fields.isdisjoint(row)]
    if len(shapes) > 1:
        keys = ", ".join(key for shape in shapes for key in sorted(shape.fields & row.keys()))
        faults.add(number, "", "ambiguous_row", f"the row has fields of {len(shapes)} formats: {keys}")
        return None
    if not shapes:
        keys = ", ".join(clip(key) for key in list(row)[:8]) or "none"
        hint = next((_HINTS[key] for key in row if key in _HINTS), "")
        faults.add(number, "", "unknown_format", f"the row's fields are of no known format: {keys}", hint)
        return None
    return shapes[0]


def _refuse_format(found: RowFormat, objective: Objective, faults: FaultList) -> None:
    wanted = ", ".join(sorted(OBJECTIVES[objective]))
    serving = " or ".join(name for name, formats in OBJECTIVES.items() if found in formats)
    problem = f"the rows have the {found} format; {objective} learns from {wanted}"
    remedy = f"Set method.type to {serving}, or upload rows of the format that {objective} learns from ({wanted})."
    faults.add(0, "", "wrong_objective", problem, remedy)


def _read_chat(row: Row, line: Line, faults: FaultList) -> Example | None:
    tools = read_tools(row, "", line.number, faults)
    messages = read_chat(row["messages"], tools, line.number, faults)
    return Example(line.number, "chat", messages=messages, size=line.length, tools=tools)


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


def _read_preference(row: Row, line: Line, faults: FaultList) -> Example | None:
    pair = read_pair(row, line.number, faults)
    return None if pair is None else replace(pair, size=line.length)


def _read_labelled(row: Row, line: Line, faults: FaultList) -> Example | None:
    return replace(read_labelled(row, line.number, faults), size=line.length)


_READERS = {
    "chat": _read_chat,
    "instruction": _read_instruction,
    "completion": _read_completion,
    "text": _read_text,
    "preference": _read_preference,
    "labelled": _read_labelled,
}
