"""Rows that judge answers: two answers to one prompt, or one that is good or bad."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from spotune.data.chat import check_chat, fields_of, read_chat, read_turns
from spotune.data.faults import FaultList
from spotune.data.rows import Example, Message, only_last_turn
from spotune.data.strings import read_string
from spotune.data.tools import read_tools

Row = Mapping[str, object]


def read_pair(row: Row, line: int, faults: FaultList) -> Example | None:
    """A preference row in OpenAI's shape (`input`, `preferred_output`, `non_preferred_output`) or TRL's (`prompt`,
    `chosen`, `rejected`; all text, or all lists of messages)."""
    if "input" in row:
        asked = row["input"]
        if not isinstance(asked, dict) or "messages" not in asked:
            faults.add(line, "input", "missing_field", "input is not an object with messages", _INPUT_HINT)
            return None
        tools = read_tools(asked, "input.", line, faults)
        return _pair(
            _answered(
                asked["messages"], "input.messages", row["preferred_output"], "preferred_output", tools, line, faults
            ),
            _answered(
                asked["messages"],
                "input.messages",
                row["non_preferred_output"],
                "non_preferred_output",
                tools,
                line,
                faults,
            ),
            line,
            faults,
        )
    tools = read_tools(row, "", line, faults)
    return _pair(
        _answered(row["prompt"], "prompt", row["chosen"], "chosen", tools, line, faults),
        _answered(row["prompt"], "prompt", row["rejected"], "rejected", tools, line, faults),
        line,
        faults,
    )


_INPUT_HINT = 'Write it as {"messages": [...]}, with `tools` beside the messages where there are any.'


def _pair(preferred: Example, rejected: Example, line: int, faults: FaultList) -> Example:
    if preferred == rejected and not faults.noted(line):
        faults.add(line, "", "equal_answers", "both answers of the row are the same")
    return replace(preferred, rejected=rejected)


def read_labelled(row: Row, line: int, faults: FaultList) -> Example:
    """A row with a `label`: `prompt` and `completion` (text, or lists of messages), or `messages`, the last of which
    is judged."""
    label = row["label"]
    if type(label) is not bool:
        faults.add(line, "label", "wrong_label", "label is neither true nor false")
    tools = read_tools(row, "", line, faults)
    if "messages" not in row:
        example = _answered(row["prompt"], "prompt", row["completion"], "completion", tools, line, faults)
        return replace(example, format="labelled", label=bool(label))
    messages = read_chat(row["messages"], tools, line, faults)
    judged = only_last_turn(tuple(replace(message, weight=1) for message in messages))
    return Example(line, "labelled", messages=judged, tools=tools, label=bool(label))


def _answered(
    prompt: object, prompt_field: str, answer: object, answer_field: str, tools: str, line: int, faults: FaultList
) -> Example:
    """A prompt with one of its answers; where a part is a fault, the example is never used."""
    if isinstance(prompt, str) and isinstance(answer, str):
        asked = read_string(prompt, prompt_field, line, faults)
        return Example(
            line, "preference", prompt=asked, completion=read_string(answer, answer_field, line, faults), tools=tools
        )
    context = tuple(replace(turn, weight=0) for turn in read_turns(prompt, prompt_field, line, faults))
    answers = tuple(replace(turn, weight=1) for turn in read_turns(answer, answer_field, line, faults))
    messages: tuple[Message, ...] = (*context, *answers)
    if not faults.noted(line):
        if not any(turn.role == "assistant" for turn in answers):
            faults.add(line, answer_field, "no_assistant_turn", f"{answer_field} has no assistant turn")
        fields = [*fields_of(prompt_field, context), *fields_of(answer_field, answers)]
        check_chat(messages, fields, tools, line, faults)
    return Example(line, "preference", messages=messages, tools=tools)


def mismatched(examples: Sequence[Example]) -> Iterator[Example]:
    """Each row with the answer of the next one that has another prompt, or its own where none has.

    From these KTO estimates how far the model has moved from its reference altogether.
    """
    for index, example in enumerate(examples):
        following = (*examples[index + 1 :], *examples[:index])
        others = (other for other in following if bool(other.messages) == bool(example.messages))
        other = next((other for other in others if _asked(other) != _asked(example)), example)
        messages = (*example.messages[: _begin(example)], *other.messages[_begin(other) :])
        yield replace(example, messages=messages, completion=other.completion)


def _asked(example: Example) -> tuple[str, tuple[Message, ...]]:
    return example.prompt, example.messages[: _begin(example)]


def _begin(example: Example) -> int:
    """Where the judged answer begins among the messages."""
    return next((index for index, message in enumerate(example.messages) if message.trained), 0)
