"""Golden prompts: what is read from a file, and which answers are met."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotune.data.faults import FaultList
from spotune.data.golden import MAX_GOLDEN_PROMPTS, GoldenPrompt, fits, read_golden
from spotune.data.rows import Message

ASKED = [{"role": "user", "content": "Which team?"}]
NAMES = st.text("abc", max_size=2)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


def read(*lines: object) -> tuple[list[GoldenPrompt], FaultList]:
    faults = FaultList()
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    return list(read_golden([text.encode()], faults)), faults


def golden(expected: object) -> GoldenPrompt:
    (found,), faults = read({"messages": ASKED, "expected": expected})
    assert not faults.count
    return found


def test_each_place_of_a_prompt_is_a_row_with_what_is_expected_for_its_answer() -> None:
    (chat,), _ = read({"messages": ASKED, "expected": " billing"})
    assert chat.example.messages == (Message("user", "Which team?"), Message("assistant", " billing"))
    (plain,), _ = read({"prompt": "Which team?", "expected": "billing"})
    assert (plain.example.prompt, plain.example.completion) == ("Which team?", "billing")
    (instruction,), _ = read({"instruction": "Which team?", "input": "A ticket", "expected": {"team": "billing"}})
    assert instruction.example.completion == '{"team": "billing"}'
    assert instruction.wanted == '{"team": "billing"}'


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ({"messages": ASKED}, "no_expectation"),
        ({"messages": ASKED, "expected": 3}, "no_expectation"),
        ({"messages": ASKED, "expected": ""}, "empty_content"),
        ({"expected": "billing"}, "no_golden_prompt"),
        ({"text": "billing", "expected": "billing"}, "no_golden_prompt"),
        ({"messages": ASKED, "prompt": "Which team?", "expected": "billing"}, "no_golden_prompt"),
        ({"prompt": "Which team?", "completion": "billing", "expected": "billing"}, "golden_with_answer"),
        ({"instruction": "Which team?", "output": "billing", "expected": "billing"}, "golden_with_answer"),
        ({"messages": [*ASKED, {"role": "assistant", "content": "x"}], "expected": "billing"}, "wrong_order"),
        ({"messages": ASKED, "expected": "billing", "wanted": 1}, "unknown_field"),
        ({"messages": "Which team?", "expected": "billing"}, "not_a_list"),
        ("{", "malformed_json"),
    ],
)
def test_a_bad_line_is_a_fault_and_the_good_ones_are_read(line: object, rule: str) -> None:
    found, faults = read({"messages": ASKED, "expected": "sales"}, line, {"messages": ASKED, "expected": "billing"})
    assert [one.line for one in found] == [1, 3]
    assert [(fault.line, fault.rule) for fault in faults.faults] == [(2, rule)]


def test_a_file_without_prompts_or_with_too_many_is_a_fault() -> None:
    assert [fault.rule for fault in read()[1].faults] == ["empty_file"]
    line = {"messages": ASKED, "expected": "billing"}
    found, faults = read(*[line] * MAX_GOLDEN_PROMPTS)
    assert (len(found), faults.count) == (MAX_GOLDEN_PROMPTS, 0)
    found, faults = read(*[line] * (MAX_GOLDEN_PROMPTS + 1))
    assert [fault.rule for fault in faults.faults] == ["too_many_golden_prompts"]


def test_a_text_is_met_by_itself_with_white_space_around_it_and_by_nothing_else() -> None:
    wanted = golden("billing ")
    assert wanted.met("\n billing")
    assert not wanted.met("Billing")
    assert not wanted.met("billing.")


SHAPE = {"team": "billing", "urgency": "<integer>", "tags": ["<string>", "..."], "note": "<null>"}


@pytest.mark.parametrize(
    ("change", "met"),
    [
        ({}, True),
        ({"tags": []}, True),
        ({"urgency": 2.0}, True),
        ({"urgency": 2.5}, False),
        ({"urgency": True}, False),
        ({"urgency": "2"}, False),
        ({"team": "sales"}, False),
        ({"tags": ["a", 1]}, False),
        ({"note": ""}, False),
        ({"more": 1}, False),
    ],
)
def test_a_shape_is_met_by_its_keys_types_and_values(change: dict[str, Any], met: bool) -> None:
    answer = {"team": "billing", "urgency": 2, "tags": ["a", "b"], "note": None, **change}
    assert golden(SHAPE).met(f" {json.dumps(answer)}\n") is met
    assert golden({**SHAPE, "...": "<any>"}).met(json.dumps(answer)) is (met or "more" in change)


@pytest.mark.parametrize("answer", ["", "{", '{"a": NaN}', '{"a": 1} ok', '```json\n{"a": 1}\n```', "[" * 100_000])
def test_what_is_not_json_alone_meets_no_shape(answer: str) -> None:
    assert golden({"a": 1}).met('{"a": 1}')
    assert not golden({"a": "<any>"}).met(answer)


def test_numbers_are_no_booleans_and_infinity_is_no_integer() -> None:
    assert not fits(True, 1)
    assert not fits(1, True)
    assert not fits(json.loads("1e999"), "<integer>")
    assert not fits([1], [1, 2])
    assert not fits([], [1, 2, "..."])
    assert fits([1, 2, 2], [1, 2, "..."])


@given(VALUES, VALUES)
def test_a_plain_shape_is_fitted_by_its_own_value_alone(value: object, shape: object) -> None:
    assert fits(value, value)
    assert fits(value, "<any>")
    assert fits(value, shape) == (json.dumps(value, sort_keys=True) == json.dumps(shape, sort_keys=True))
