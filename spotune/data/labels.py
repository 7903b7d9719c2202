"""What a row of any format may say about itself for the evaluation: its slice, and the answers to choose from."""

from __future__ import annotations

from dataclasses import replace

from spotune.data.faults import FaultList
from spotune.data.parsing import Row
from spotune.data.rows import Example
from spotune.data.strings import read_string

LABELS = frozenset({"slice", "choices"})
MAX_SLICE_CHARACTERS = 64
MAX_CHOICES = 26


def labelled(example: Example, row: Row, line: int, faults: FaultList) -> Example:
    """The example with its slice and its choices, as far as the row has them; what is wrong becomes a fault."""
    if "slice" in row:
        example = replace(example, slice=_slice(row["slice"], line, faults))
    if "choices" in row:
        example = replace(example, choices=_choices(row["choices"], example, line, faults))
    return example


def _slice(value: object, line: int, faults: FaultList) -> str:
    name = read_string(value, "slice", line, faults).strip()
    if len(name) > MAX_SLICE_CHARACTERS:
        message = f"slice has {len(name)} characters; {MAX_SLICE_CHARACTERS} are allowed"
        faults.add(line, "slice", "slice_too_long", message)
    return name


def _choices(value: object, example: Example, line: int, faults: FaultList) -> tuple[str, ...]:
    """Different answers, the row's own among them."""
    if not isinstance(value, list) or not 2 <= len(value) <= MAX_CHOICES:
        faults.add(line, "choices", "wrong_choices", f"choices is no list of 2 to {MAX_CHOICES} answers")
        return ()
    choices = tuple(read_string(each, f"choices[{number}]", line, faults) for number, each in enumerate(value))
    if "" in choices:  # a fault already
        return ()
    own = example.messages[example.answer].content if example.messages else example.completion
    if len(set(choices)) < len(choices):
        faults.add(line, "choices", "wrong_choices", "choices has the same answer twice")
    elif own not in choices:
        faults.add(line, "choices", "wrong_choices", "the row's own answer is none of its choices")
    return choices
