"""Golden prompts: what a model must answer before it is promoted, one JSONL line each, and whether an answer is that.

A line is a row of a dataset without its answer, and `expected` in the answer's place:

    {"messages": [{"role": "user", "content": "..."}], "expected": "billing"}
    {"prompt": "...", "expected": {"team": "billing", "urgency": "<integer>", "tags": ["<string>", "..."]}}

A text is met by the same text but for white space around it. An object or array is met by an answer that is nothing
but JSON of that shape: the same keys, and as many items. There `<string>`, `<number>`, `<integer>`, `<boolean>`,
`<null>` and `<any>` stand for any value of the type, `"..."` at an array's end for any number of items like the one
before it, and a key `"..."` for any further keys.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from spotune.data.faults import FaultList
from spotune.data.formats import read_row, read_rows
from spotune.data.parsing import Row
from spotune.data.rows import Example

MAX_GOLDEN_PROMPTS = 100
"""Every model answers each of them, and a report holds all of the answers."""

REST = "..."
EXPECTED = "expected"
_ANSWERS = {"messages": None, "prompt": "completion", "instruction": "output"}
"""Where a row has its prompt, and where its answer would be; a chat's is its last turn."""


@dataclass(frozen=True, slots=True)
class GoldenPrompt:
    """A prompt and what is expected of its answer."""

    line: int
    """In its file, counted from 1."""
    example: Example
    """The row with `wanted` for its answer."""
    wanted: str
    """The text, or the shape as JSON."""
    shape: dict[str, object] | list[object] | None
    """None where the text itself is expected."""

    def met(self, answer: str) -> bool:
        """True where the answer is what is expected."""
        if self.shape is None:
            return answer.strip() == self.wanted.strip()
        try:
            given = json.loads(answer, parse_constant=_refuse)
        except (ValueError, RecursionError):
            return False
        return fits(given, self.shape)


def read_golden(chunks: Iterable[bytes], faults: FaultList) -> Iterator[GoldenPrompt]:
    """Each good line of a golden file, in order; each bad one becomes a fault, and so does one beyond the last allowed.

    Bad data never raises.
    """
    for row, line in read_rows(chunks, faults):
        if faults.rows == MAX_GOLDEN_PROMPTS:
            message = f"the file has more than {MAX_GOLDEN_PROMPTS} golden prompts"
            faults.add(0, "", "too_many_golden_prompts", message)
            return
        wanted = _wanted(row, line.number, faults)
        example = None if wanted is None else read_row(_answered(row, wanted), line, faults)
        if example is not None and wanted is not None:
            faults.rows += 1
            expected = row[EXPECTED]
            shape = expected if isinstance(expected, dict | list) else None
            yield GoldenPrompt(line.number, example, wanted, shape)
    if not faults.rows and not faults.count:
        faults.add(0, "", "empty_file", "the file has no rows")


def fits(given: object, shape: object) -> bool:
    """True where a JSON value has a shape; see the module's description."""
    if isinstance(shape, str) and shape in _TYPES:
        return _TYPES[shape](given)
    if isinstance(shape, dict):
        named = {key: wanted for key, wanted in shape.items() if key != REST}
        if not isinstance(given, dict) or not named.keys() <= given.keys():
            return False
        whole = REST in shape or named.keys() == given.keys()
        return whole and all(fits(given[key], wanted) for key, wanted in named.items())
    if isinstance(shape, list):
        return isinstance(given, list) and _fits_list(given, shape)
    if isinstance(shape, bool) or isinstance(given, bool):
        return given is shape
    return given == shape


def _fits_list(given: list[object], shape: list[object]) -> bool:
    if shape[1:] and shape[-1] == REST:
        fixed, like = shape[:-2], shape[-2]
        wanted = [*fixed, *[like] * (len(given) - len(fixed))]
    else:
        wanted = shape
    return len(given) == len(wanted) and all(map(fits, given, wanted))


def _wanted(row: Row, line: int, faults: FaultList) -> str | None:
    """What is expected, as text; None, and a fault, where the line does not say it as it should."""
    places = [name for name in _ANSWERS if name in row]
    expected = row.get(EXPECTED)
    if not isinstance(expected, str | dict | list):
        message = f"the line has no {EXPECTED} that is a text, an object or an array"
        faults.add(line, EXPECTED, "no_expectation", message)
    elif len(places) != 1:
        message = f"the line has {len(places)} of messages, prompt and instruction"
        faults.add(line, "", "no_golden_prompt", message)
    elif (answer := _ANSWERS[places[0]]) is not None and answer in row:
        faults.add(line, answer, "golden_with_answer", f"the line has both {EXPECTED} and {answer}")
    else:
        return expected if isinstance(expected, str) else json.dumps(expected, ensure_ascii=False)
    return None


def _answered(row: Row, wanted: str) -> Row:
    """The row of a dataset that the line would be."""
    rest = {key: value for key, value in row.items() if key != EXPECTED}
    if "messages" not in rest:
        return {**rest, "completion" if "prompt" in rest else "output": wanted}
    turns = rest["messages"]
    answer = {"role": "assistant", "content": wanted}
    return {**rest, "messages": [*turns, answer] if isinstance(turns, list) else turns}


def _refuse(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TYPES: dict[str, Callable[[object], bool]] = {
    "<string>": lambda value: isinstance(value, str),
    "<number>": _is_number,
    "<integer>": lambda value: _is_number(value) and float(value).is_integer(),  # type: ignore[arg-type]
    "<boolean>": lambda value: isinstance(value, bool),
    "<null>": lambda value: value is None,
    "<any>": lambda value: True,
}
