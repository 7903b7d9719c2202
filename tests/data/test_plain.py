"""The short way of reading plain chats against the rules, which read every row."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotune.data import formats
from spotune.data.faults import FaultList
from spotune.data.formats import read_checked, read_examples
from spotune.data.plain import PlainChat, content_of, example_of, read_plain_chat
from spotune.data.rows import Example, content_bytes

GOOD = {"messages": [{"role": "user", "content": "Hé?"}, {"role": "assistant", "content": " Yes.\n"}]}
SAID = st.one_of(st.text(max_size=6), st.sampled_from(["", " ", "\0", "\ud800", "é", None, 1, ["a"], {"a": "b"}]))
ROLES = st.sampled_from(["system", "user", "assistant", "tool", "human", None, 3, ["user"]])
TURNS = st.one_of(
    st.fixed_dictionaries({"role": ROLES, "content": SAID}),
    st.fixed_dictionaries({"content": SAID, "role": ROLES}),
    st.fixed_dictionaries({"role": ROLES, "content": SAID, "weight": st.sampled_from([0, 1, 2, True])}),
    st.just({"role": "user"}),
    st.just([["role", "user"], ["content", "x"]]),
    st.sampled_from(["ab", None, 1, {}]),
)
GOOD_TURNS = st.lists(st.sampled_from(["One.", "Zwei?", "三"]), min_size=2, max_size=6).map(
    lambda said: [
        {"role": ("user", "assistant")[place % 2], "content": text}
        for place, text in enumerate(said[: len(said) // 2 * 2])
    ]
)
ROWS = st.one_of(
    st.fixed_dictionaries({"messages": GOOD_TURNS}),
    st.fixed_dictionaries({"messages": st.lists(TURNS, max_size=5)}),
    st.fixed_dictionaries({"messages": st.lists(TURNS, max_size=3), "tools": st.none()}),
    st.sampled_from([[], {}, "x", {"messages": {}}, {"text": "x"}, {"messages": "ab"}]),
)


def read(body: bytes) -> tuple[list[Example], Any]:
    faults = FaultList()
    return list(read_examples([body], faults)), (faults.faults, faults.count, faults.rows, faults.format)


@given(st.lists(ROWS, min_size=1, max_size=4))
@settings(max_examples=400, deadline=None)
def test_both_ways_read_the_same(rows: list[object]) -> None:
    body = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    both = read(body)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats, "read_plain_chat", lambda content, number: None)
        assert read(body) == both


@pytest.mark.parametrize(
    "line",
    [
        b'{"messages": [{"role": "user", "role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}',
        b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "messages": []}',
        b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]} x',
        b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}',
        b'{"messages": [{"role": "user", "content": "\xff"}, {"role": "assistant", "content": "b"}]}',
        b'{"messages": [{"role": "user", "content": "\\u0000"}, {"role": "assistant", "content": "b"}]}',
        b'{"messages": [{"role": "user", "content": "\\ud800"}, {"role": "assistant", "content": "b"}]}',
        b'{"messages": ' + b"[" * 100_000,
        b'{"messages": [{"role": "user", "text": "a"}, {"role": "assistant", "content": "b"}]}',
        b'{"messages": [{"from": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}',
        b'{"messages": NaN}',
        b"[]",
        b"",
        b"null",
    ],
)
def test_what_is_wrong_or_unusual_is_left_to_the_rules(line: bytes) -> None:
    assert read_plain_chat(line, 1) is None


def test_a_plain_chat_is_its_example() -> None:
    for end in ("", " ", "\r", "\t"):
        chat = read_plain_chat(json.dumps(GOOD).encode() + end.encode(), 7)
        assert chat is not None
        example = example_of(chat)
        assert [(message.role, message.content) for message in example.messages] == [
            ("user", "Hé?"),
            ("assistant", " Yes.\n"),
        ]
        assert content_of(chat) == content_of(example) == content_bytes(example)
        assert (example.number, example.size) == (7, len(json.dumps(GOOD)) + len(end))
        assert (chat.slice, chat.choices, chat.tools, chat.label) == ("", (), "", None)


def test_most_rows_are_read_the_short_way() -> None:
    rows = read_checked([json.dumps(GOOD).encode()], FaultList())
    assert [type(row) for row in rows] == [PlainChat]


def test_chats_among_other_rows_are_mixed_formats() -> None:
    faults = FaultList()
    body = b'{"text": "a"}\n' + json.dumps(GOOD).encode() + b"\n"
    assert len(list(read_examples([body], faults))) == 1
    assert [fault.rule for fault in faults.faults] == ["mixed_formats"]
