import json
import tracemalloc
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotune.contracts.dataset import MAX_FAULTS
from spotune.contracts.request import Objective
from spotune.data import lines
from spotune.data.formats import FaultList, read_examples
from spotune.data.rows import Example, Message, ToolCall, content_hash

CHAT = {"messages": [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hello."}]}
GOOD = json.dumps(CHAT).encode()
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)


def read(content: bytes | Iterable[bytes]) -> tuple[list[Example], FaultList]:
    faults = FaultList()
    return list(read_examples([content] if isinstance(content, bytes) else content, faults)), faults


def chat(*turns: tuple[object, object], **extra: object) -> bytes:
    return json.dumps({"messages": [{"role": role, "content": content, **extra} for role, content in turns]}).encode()


BAD_FILES: dict[str, tuple[str, bytes]] = {
    "nothing at all": ("empty_file", b""),
    "only blank lines": ("empty_file", b"\n \r\n\n"),
    "utf-16 with a mark": ("utf16", GOOD.decode().encode("utf-16")),
    "utf-16 without a mark": ("utf16", GOOD.decode().encode("utf-16-le")),
    "utf-16, the other way round": ("utf16", GOOD.decode().encode("utf-16-be")),
    "utf-32": ("utf16", GOOD.decode().encode("utf-32")),
    "parquet": ("binary_file", b"PAR1\x15\x04\x15"),
    "gzip": ("binary_file", b"\x1f\x8b\x08\x00\x00"),
    "csv": ("csv_file", b"prompt,completion\nHello?,Hello.\n"),
    "tab-separated": ("csv_file", b'"prompt"\t"completion"\nHello?\tHello.\n'),
    "array on one line": ("json_array", b"[" + GOOD + b"]"),
    "array over many lines": ("json_array", b"[\n  " + GOOD + b",\n" + GOOD + b"\n]\n"),
    "pretty-printed": ("pretty_printed", json.dumps(CHAT, indent=2).encode()),
}

BAD_LINES: dict[str, tuple[str, str, bytes]] = {
    "not JSON": ("malformed_json", "", b'{"text": hello}'),
    "not JSON at all": ("malformed_json", "", b"hello"),
    "two objects": ("malformed_json", "", GOOD + GOOD),
    "control character": ("malformed_json", "", b'{"text": "a\x01"}'),
    "endless number": ("malformed_json", "", b'{"text": ' + b"9" * 5000 + b"}"),
    "nul byte": ("nul_byte", "", b'{"text": "a\x00"}'),
    "latin-1": ("invalid_utf8", "", b'{"text": "caf\xe9"}'),
    "encoded surrogate": ("invalid_utf8", "", b'{"text": "\xed\xa0\x80"}'),
    "depth": ("nested_too_deeply", "", b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "NaN": ("not_a_number", "", b'{"text": NaN}'),
    "infinity": ("not_a_number", "", b'{"text": -Infinity}'),
    "duplicate key": ("duplicate_key", "text", b'{"text": "a", "text": "b"}'),
    "bare messages": ("not_an_object", "", json.dumps(CHAT["messages"]).encode()),
    "null": ("not_an_object", "", b"null"),
    "empty object": ("unknown_format", "", b"{}"),
    "another format's names": ("unknown_format", "", b'{"question": "a", "answer": "b"}'),
    "fields of two formats": ("ambiguous_row", "", b'{"text": "a", "prompt": "b", "completion": "c"}'),
    "no completion": ("missing_field", "completion", b'{"prompt": "a"}'),
    "no role": ("missing_field", "messages[0].role", b'{"messages": [{"content": "a"}]}'),
    "further field": ("unknown_field", "id", b'{"text": "a", "id": 1}'),
    "further field of a message": ("unknown_field", "messages[0].name", chat(("user", "a"), name="b")),
    "content parts": ("not_a_string", "messages[0].content", chat(("user", [{"type": "text"}]), ("assistant", "b"))),
    "number as text": ("not_a_string", "text", b'{"text": 1}'),
    "list as input": ("not_a_string", "input", b'{"instruction": "a", "input": [], "output": "b"}'),
    "empty answer": ("empty_content", "messages[1].content", chat(("user", "a"), ("assistant", " \n"))),
    "empty prompt": ("empty_content", "prompt", b'{"prompt": "", "completion": "b"}'),
    "escaped nul": ("nul_character", "text", rb'{"text": "a\u0000b"}'),
    "slice of another type": ("not_a_string", "slice", b'{"text": "a", "slice": 3}'),
    "empty slice": ("empty_content", "slice", b'{"text": "a", "slice": " "}'),
    "long slice": ("slice_too_long", "slice", b'{"text": "a", "slice": "' + b"a" * 65 + b'"}'),
    "choices of a text": ("wrong_choices", "choices", b'{"text": "a", "choices": ["a", "b"]}'),
    "one choice": ("wrong_choices", "choices", b'{"prompt": "a", "completion": "b", "choices": ["b"]}'),
    "other choices": ("wrong_choices", "choices", b'{"prompt": "a", "completion": "b", "choices": ["c", "d"]}'),
    "a choice twice": ("wrong_choices", "choices", b'{"prompt": "a", "completion": "b", "choices": ["b", "b"]}'),
    "a number to choose": ("not_a_string", "choices[1]", b'{"prompt": "a", "completion": "b", "choices": ["b", 2]}'),
    "half a pair": ("lone_surrogate", "text", rb'{"text": "\ud83d"}'),
    "messages as text": ("not_a_list", "messages", b'{"messages": "hello"}'),
    "endless chat": ("too_many_messages", "messages", chat(*[("user", "a"), ("assistant", "b")] * 501)),
    "message as text": ("not_a_message", "messages[0]", b'{"messages": ["hello"]}'),
    "made-up role": ("wrong_role", "messages[0].role", chat(("human", "a"), ("assistant", "b"))),
    "role of another type": ("wrong_role", "messages[0].role", chat((None, "a"), ("assistant", "b"))),
    "function role": ("wrong_role", "messages[1].role", chat(("user", "a"), ("function", "b"))),
    "tool role without a call": ("missing_field", "messages[1].tool_call_id", chat(("user", "a"), ("tool", "b"))),
    "weight of a half": ("wrong_weight", "messages[0].weight", chat(("assistant", "a"), weight=0.5)),
    "weight true": ("wrong_weight", "messages[0].weight", chat(("assistant", "a"), weight=True)),
    "weight of a user": ("wrong_weight", "messages[0].weight", chat(("user", "a"), ("assistant", "b"), weight=1)),
    "nobody answers": ("no_assistant_turn", "messages", chat(("user", "a"))),
    "no messages": ("no_assistant_turn", "messages", b'{"messages": []}'),
    "assistant first": ("wrong_order", "messages[0].role", chat(("assistant", "a"), ("user", "b"))),
    "system second": ("wrong_order", "messages[1].role", chat(("user", "a"), ("system", "b"), ("assistant", "c"))),
    "two answers": ("wrong_order", "messages[2].role", chat(("user", "a"), ("assistant", "b"), ("assistant", "c"))),
    "user last": ("wrong_order", "messages[2].role", chat(("user", "a"), ("assistant", "b"), ("user", "c"))),
    "nothing to learn": (
        "nothing_trained",
        "messages",
        b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]}',
    ),
}


def calling(*calls: object, tools: object = None, result: object = "call_1", **extra: object) -> bytes:
    """A chat whose assistant calls, is answered, and answers."""
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": None, "tool_calls": list(calls)},
        {"role": "tool", "tool_call_id": result, "content": "b"},
        {"role": "assistant", "content": "c"},
    ]
    return json.dumps({"messages": turns, "tools": tools or [tool("look")], **extra}).encode()


def tool(name: object, **more: object) -> dict[str, object]:
    return {"type": "function", "function": {"name": name, **more}}


def call(name: object = "look", arguments: object = "{}", id: object = "call_1") -> dict[str, object]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def judged(prompt: object = "a", chosen: object = "b", rejected: object = "c", **more: object) -> bytes:
    return json.dumps({"prompt": prompt, "chosen": chosen, "rejected": rejected, **more}).encode()


def said(role: str, content: str) -> list[dict[str, str]]:
    return [{"role": role, "content": content}]


BAD_LINES |= {
    "tools as text": ("wrong_tool", "tools", calling(call(), tools="look")),
    "tool of another type": ("wrong_tool", "tools[0]", calling(call(), tools=[{"type": "retrieval"}])),
    "tool without a name": ("wrong_tool", "tools[0].function.name", calling(call(), tools=[tool("")])),
    "tool with odd parameters": (
        "wrong_tool",
        "tools[0].function.parameters",
        calling(call(), tools=[tool("look", parameters=[])]),
    ),
    "parallel calls maybe": ("wrong_tool", "parallel_tool_calls", calling(call(), parallel_tool_calls=1)),
    "calls of a user": (
        "unknown_field",
        "messages[0].tool_calls",
        chat(("user", "a"), ("assistant", "b"), tool_calls=[call()]),
    ),
    "no calls": ("wrong_tool_call", "messages[1].tool_calls", calling()),
    "call as text": ("wrong_tool_call", "messages[1].tool_calls[0]", calling("look")),
    "call without an id": ("wrong_tool_call", "messages[1].tool_calls[0].id", calling(call(id=""))),
    "call without a name": ("wrong_tool_call", "messages[1].tool_calls[0].function.name", calling(call(name=None))),
    "two calls of one id": ("wrong_tool_call", "messages[1].tool_calls", calling(call(), call())),
    "arguments cut short": (
        "wrong_arguments",
        "messages[1].tool_calls[0].function.arguments",
        calling(call(arguments='{"a": ')),
    ),
    "arguments in a list": (
        "wrong_arguments",
        "messages[1].tool_calls[0].function.arguments",
        calling(call(arguments="[1]")),
    ),
    "argument that is no number": (
        "wrong_arguments",
        "messages[1].tool_calls[0].function.arguments",
        calling(call(arguments='{"a": NaN}')),
    ),
    "undeclared function": ("unknown_tool", "messages[1].tool_calls", calling(call("other"))),
    "result of another call": ("unmatched_call", "messages[2].tool_call_id", calling(call(), result="call_2")),
    "call without its result": ("unmatched_call", "messages[3]", calling(call(), call(id="call_2"))),
    "result without any call": (
        "wrong_order",
        "messages[1].role",
        b'{"messages": [{"role": "user", "content": "a"}, {"role": "tool", "tool_call_id": "1", "content": "b"}, '
        b'{"role": "assistant", "content": "c"}]}',
    ),
}
"""Rows with tools that are chats; the others are judged."""

BAD_VERDICTS: dict[str, tuple[str, str, bytes]] = {
    "no rejected answer": ("missing_field", "rejected", b'{"prompt": "a", "chosen": "b"}'),
    "further field of a pair": ("unknown_field", "score", judged(score=1)),
    "the same answer twice": ("equal_answers", "", judged(chosen="b", rejected="b")),
    "empty rejected answer": ("empty_content", "rejected", judged(rejected=" ")),
    "prompt of messages, answers of text": ("not_a_list", "chosen", judged(prompt=said("user", "a"))),
    "answer by a user": (
        "no_assistant_turn",
        "chosen",
        judged(said("user", "a"), said("user", "b"), said("assistant", "c")),
    ),
    "prompt that ends with an answer": (
        "wrong_order",
        "chosen[0].role",
        judged(said("user", "a") + said("assistant", "b"), said("assistant", "c"), said("assistant", "d")),
    ),
    "bad role in the prompt": (
        "wrong_role",
        "prompt[0].role",
        judged(said("human", "a"), said("assistant", "c"), said("assistant", "d")),
    ),
    "input as text": (
        "missing_field",
        "input",
        b'{"input": "a", "preferred_output": [], "non_preferred_output": []}',
    ),
    "bad role in the other answer": (
        "wrong_role",
        "non_preferred_output[0].role",
        json.dumps(
            {
                "input": {"messages": said("user", "a")},
                "preferred_output": said("assistant", "b"),
                "non_preferred_output": said("bot", "c"),
            }
        ).encode(),
    ),
}
BAD_LABELS: dict[str, tuple[str, str, bytes]] = {
    "label as a number": ("wrong_label", "label", b'{"prompt": "a", "completion": "b", "label": 1}'),
    "label alone": ("missing_field", "completion", b'{"prompt": "a", "label": true}'),
    "labelled chat without an answer": (
        "no_assistant_turn",
        "messages",
        json.dumps({"messages": said("user", "a"), "label": True}).encode(),
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_what_is_no_jsonl_at_all_is_one_fault_of_the_file(name: str) -> None:
    rule, content = BAD_FILES[name]
    examples, faults = read(content)
    assert examples == []
    assert [(fault.line, fault.rule) for fault in faults.faults] == [(0, rule)]
    assert faults.faults[0].remedy


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_is_named_by_line_field_and_rule_and_its_neighbours_are_read(name: str) -> None:
    rule, field, content = BAD_LINES[name]
    examples, faults = read(GOOD + b"\n" + content + b"\n" + GOOD)
    assert [example.number for example in examples] == [1, 3]
    assert [(fault.line, fault.rule, fault.field) for fault in faults.faults] == [(2, rule, field)]
    assert faults.faults[0].message
    assert faults.faults[0].remedy


@pytest.mark.parametrize(
    ("objective", "name"), [("dpo", name) for name in BAD_VERDICTS] + [("kto", name) for name in BAD_LABELS]
)
def test_a_bad_verdict_is_named_by_line_field_and_rule_and_its_neighbours_are_read(
    objective: Objective, name: str
) -> None:
    rule, field, content = (BAD_VERDICTS | BAD_LABELS)[name]
    good = judged() if objective == "dpo" else b'{"prompt": "a", "completion": "b", "label": true}'
    faults = FaultList()
    examples = list(read_examples([good + b"\n" + content + b"\n" + good], faults, objective))
    assert [example.number for example in examples] == [1, 3]
    assert [(fault.line, fault.rule, fault.field) for fault in faults.faults] == [(2, rule, field)]


@pytest.mark.parametrize(
    ("content", "objective", "remedy"),
    [
        (judged(), "supervised", "dpo or orpo"),
        (judged(), "kto", "dpo or orpo"),
        (GOOD, "dpo", "supervised"),
        (b'{"prompt": "a", "completion": "b", "label": true}', "orpo", "kto"),
    ],
)
def test_rows_that_the_objective_does_not_learn_from_are_one_fault_of_the_file(
    content: bytes, objective: Objective, remedy: str
) -> None:
    faults = FaultList()
    list(read_examples([content + b"\n" + content], faults, objective))
    assert [(fault.line, fault.rule) for fault in faults.faults] == [(0, "wrong_objective")]
    assert f"Set method.type to {remedy}," in faults.faults[0].remedy


@pytest.mark.parametrize("cut", range(1, len(GOOD)))
def test_a_file_that_ends_within_a_row_is_called_cut_short(cut: int) -> None:
    _, faults = read(GOOD + b"\n" + GOOD[:cut])
    assert [(fault.line, fault.rule) for fault in faults.faults] == [(2, "truncated_json")]


def test_a_cut_within_a_character_is_called_cut_short() -> None:
    _, faults = read('{"text": "€'.encode()[:-1])
    assert [fault.rule for fault in faults.faults] == ["truncated_json"]


def test_a_byte_order_mark_is_refused_once_and_the_rest_is_read() -> None:
    examples, faults = read(b"\xef\xbb\xbf" + GOOD + b"\nnull\n")
    assert [(fault.line, fault.rule) for fault in faults.faults] == [(1, "utf8_bom"), (2, "not_an_object")]
    assert len(examples) == 1


def test_blank_lines_are_faults_between_rows_and_nothing_at_the_end() -> None:
    _, faults = read(GOOD + b"\n\n  \r\n" + GOOD + b"\r\n\n\n")
    assert [(fault.line, fault.rule) for fault in faults.faults] == [(2, "blank_line"), (3, "blank_line")]


def test_rows_of_another_format_than_the_first_are_refused() -> None:
    examples, faults = read(b'{"text": "a"}\n' + GOOD + b'\n{"text": "b"}')
    assert [(fault.line, fault.rule) for fault in faults.faults] == [(2, "mixed_formats")]
    assert (faults.format, faults.rows) == ("text", 2)
    assert [example.text for example in examples] == ["a", "b"]


def test_a_line_too_long_is_measured_but_never_held() -> None:
    def endless() -> Iterator[bytes]:
        yield b'{"text": "'
        for _ in range(64):
            yield b"a" * 1_000_000
        yield b'"}\n' + GOOD + b"\n"

    tracemalloc.start()
    examples, faults = read(endless())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [(fault.line, fault.rule) for fault in faults.faults] == [(1, "line_too_long")]
    assert "64,000,012 bytes" in faults.faults[0].message
    assert [example.number for example in examples] == [2]
    assert peak < 4 * lines.MAX_LINE_BYTES


def test_many_faults_are_counted_and_the_first_hundred_are_listed() -> None:
    _, faults = read(b"null\n" * 250)
    assert faults.count == 250
    assert [fault.line for fault in faults.faults] == list(range(1, MAX_FAULTS + 1))


def test_a_line_has_one_fault_for_each_cause() -> None:
    _, faults = read(chat(("human", ""), ("gpt", ""), ("tool", 1)))
    assert [fault.rule for fault in faults.faults] == ["wrong_role", "empty_content", "missing_field", "not_a_string"]


def test_remedies_speak_of_the_name_that_was_used() -> None:
    _, faults = read(b'{"conversations": [{"from": "human", "value": "a"}]}')
    assert "messages" in faults.faults[0].remedy
    _, faults = read(chat(("human", "a"), ("assistant", "b")))
    assert faults.faults[0].remedy == "Rename the role to user."


def test_each_format_is_read_into_its_own_fields() -> None:
    [example], _ = read(b'{"instruction": "Add.", "input": "1 2", "output": "3"}')
    assert example.messages == (Message("user", "Add.\n\n1 2"), Message("assistant", "3"))
    assert (example.prompt, example.completion) == ("Add.\n\n1 2\n\n", "3")
    [example], _ = read(b'{"instruction": "Sing.", "output": "La"}')
    assert example.prompt == "Sing.\n\n"
    [example], _ = read(b'{"prompt": "1 + 1 =", "completion": " 2"}')
    assert (example.format, example.prompt, example.completion) == ("completion", "1 + 1 =", " 2")
    [example], _ = read(b'{"text": "Once"}')
    assert (example.format, example.text, example.size) == ("text", "Once", 16)


def test_calls_and_their_results_are_read_whichever_way_arguments_are_written() -> None:
    [text], faults = read(calling(call(arguments='{"a": "\\u00e9"}'), tools=[tool("look", parameters={})]))
    [parsed], _ = read(calling(call(arguments={"a": "é"})))
    assert faults.faults == []
    assert text.messages[1] == Message("assistant", "", calls=(ToolCall("call_1", "look", '{"a": "\\u00e9"}'),))
    assert parsed.messages[1].calls[0].arguments == '{"a": "é"}'
    assert text.messages[2] == Message("tool", "b", call_id="call_1")
    assert json.loads(text.tools) == [tool("look", parameters={})]


def test_a_chat_may_end_with_a_call_and_a_row_without_tools_may_call_any() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [call("any"), call(id="call_2")]}]
    [example], faults = read(json.dumps({"messages": turns, "parallel_tool_calls": True}).encode())
    assert faults.faults == []
    assert example.tools == ""
    assert [one.name for one in example.messages[1].calls] == ["any", "look"]


def test_a_preference_is_a_row_with_another_of_the_same_prompt() -> None:
    asked = said("system", "s") + said("user", "a") + said("assistant", "b") + said("user", "c")
    openai = {
        "input": {"messages": asked, "tools": [tool("look")]},
        "preferred_output": said("assistant", "good"),
        "non_preferred_output": said("assistant", "bad"),
    }
    trl = {
        "prompt": asked,
        "chosen": said("assistant", "good"),
        "rejected": said("assistant", "bad"),
        "tools": [tool("look")],
    }
    faults = FaultList()
    one, two = read_examples([json.dumps(openai).encode() + b"\n" + json.dumps(trl).encode()], faults, "dpo")
    assert faults.faults == []
    assert one.rejected is not None
    assert (one.messages, one.rejected.messages, one.tools) == (two.messages, two.rejected.messages, two.tools)
    assert content_hash(one) == content_hash(two)
    assert [turn.content for turn in one.messages if turn.trained] == ["good"]
    assert [turn.content for turn in one.rejected.messages if turn.trained] == ["bad"]
    assert one.messages[:-1] == one.rejected.messages[:-1]


def test_of_a_labelled_chat_the_last_answer_is_judged() -> None:
    turns = said("user", "a") + said("assistant", "b") + said("user", "c") + said("assistant", "d")
    [example] = read_examples([json.dumps({"messages": turns, "label": False}).encode()], FaultList(), "kto")
    assert example.label is False
    assert [turn.content for turn in example.messages if turn.trained] == ["d"]


def test_rows_that_differ_in_what_the_model_sees_or_learns_have_different_hashes() -> None:
    contents = [
        calling(call()),
        calling(call(arguments='{"a": 1}')),
        calling(call(), tools=[tool("look"), tool("other")]),
        judged(),
        judged(rejected="d"),
        b'{"prompt": "a", "completion": "b"}',
        b'{"prompt": "a", "completion": "b", "label": true}',
        b'{"prompt": "a", "completion": "b", "label": false}',
    ]
    hashes = [content_hash(example) for content in contents for example in read_examples([content], FaultList())]
    assert len(set(hashes)) == len(contents)


def test_several_user_turns_in_a_row_are_a_chat() -> None:
    examples, faults = read(chat(("system", "s"), ("user", "a"), ("user", "b"), ("assistant", "c")))
    assert len(examples) == 1
    assert faults.count == 0


@given(st.lists(st.binary(max_size=80), max_size=6))
def test_no_bytes_ever_raise_and_something_is_always_said_of_them(chunks: list[bytes]) -> None:
    examples, faults = read(chunks)
    assert examples or faults.count
    assert faults.rows == len(examples)


@given(st.binary(max_size=60), st.integers(0, len(GOOD)), st.data())
def test_a_damaged_file_never_raises_and_chunk_borders_do_not_matter(
    noise: bytes, at: int, data: st.DataObject
) -> None:
    content = GOOD + b"\n" + GOOD[:at] + noise + GOOD[at:] + b"\n" + GOOD
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=8)))
    chunks = [content[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    whole, cut = read(content), read(chunks)
    assert whole[0] == cut[0]
    assert whole[1].faults == cut[1].faults


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("ab \0", max_size=3) | st.sampled_from(["user", "assistant"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "weight", "x"]), inner)
    ),
    max_leaves=8,
)


KEYS = ["messages", "prompt", "completion", "text", "input", "slice", "choices", "x"]


@pytest.mark.parametrize(
    ("row", "own"),
    [
        ({"prompt": "a", "completion": "b"}, "b"),
        ({"instruction": "a", "output": "b"}, "b"),
        ({**CHAT, "messages": [*CHAT["messages"], *CHAT["messages"]]}, "Hello."),
    ],
    ids=["completion", "instruction", "chat"],
)
def test_slice_and_choices_belong_to_a_row_of_any_format(row: dict[str, object], own: str) -> None:
    examples, faults = read(json.dumps({**row, "slice": " north ", "choices": ["else", own]}).encode())
    assert faults.faults == []
    assert (examples[0].slice, examples[0].choices) == ("north", ("else", own))


@given(st.dictionaries(st.sampled_from(KEYS), JSON_VALUES))
def test_any_json_object_is_a_row_or_a_fault(row: dict[str, object]) -> None:
    examples, faults = read(json.dumps(row).encode() + b"\n")
    assert bool(examples) != bool(faults.count)


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4), st.none() | TEXT, st.booleans())
def test_a_good_chat_comes_back_as_it_was_written(
    turns: list[tuple[str, str]], system: str | None, ascii_only: bool
) -> None:
    written = [("system", system)] if system is not None else []
    for asked, answered in turns:
        written += [("user", asked), ("assistant", answered)]
    row = {"messages": [{"role": role, "content": content} for role, content in written]}
    examples, faults = read(json.dumps(row, ensure_ascii=ascii_only).encode())
    assert faults.faults == []
    assert [(message.role, message.content) for message in examples[0].messages] == written
