"""Hash files and key files: what is cut short or changed is never taken for whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotune.contracts.errors import DatasetRefused
from spotune.data.assembly.hashes import hash_rows, read_keys, read_rows, write_keys
from spotune.data.assembly.refusals import HashesDamaged
from spotune.data.faults import FaultList
from spotune.data.formats import read_examples
from spotune.data.rows import prompt_hash
from tests.data.assembly.shelf import Row, lines

ROWS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=50)
KEYS = st.lists(st.binary(min_size=16, max_size=16), unique=True).map(sorted)


def cut(body: bytes, size: int) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


@given(ROWS, st.integers(1, 200))
def test_rows_are_told_apart_by_content_and_by_prompt(rows: list[Row], size: int) -> None:
    body = b"".join(hash_rows(cut(lines(rows), size)))
    row_format, found = read_rows(cut(body, size), "h", len(rows))
    hashes = list(found)
    assert row_format == "chat"
    for row, (content, prompt) in zip(rows, hashes, strict=True):
        for other, (other_content, other_prompt) in zip(rows, hashes, strict=True):
            assert (row == other) == (content == other_content)
            assert (row[0] == other[0]) == (prompt == other_prompt)


@given(KEYS, st.integers(1, 100))
def test_keys_come_back_as_they_went(keys: list[bytes], size: int) -> None:
    assert list(read_keys(cut(b"".join(write_keys(keys)), size), "k")) == keys


@given(ROWS, st.data())
def test_a_hash_file_that_was_cut_or_changed_anywhere_is_found_out(rows: list[Row], data: st.DataObject) -> None:
    body = b"".join(hash_rows([lines(rows)]))
    at = data.draw(st.integers(0, len(body) - 1))
    broken = data.draw(
        st.sampled_from([body[:at], body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :], body + body[:at] + b"x"])
    )
    with pytest.raises(HashesDamaged) as damaged:
        list(read_rows(cut(broken, 64), "s3://b/hashes", len(rows))[1])
    assert damaged.value.uri == "s3://b/hashes"


@given(KEYS, st.data())
def test_a_key_file_that_was_cut_or_changed_anywhere_is_found_out(keys: list[bytes], data: st.DataObject) -> None:
    body = b"".join(write_keys(keys))
    at = data.draw(st.integers(0, len(body) - 1))
    for broken in (body[:at], body[:at] + bytes([body[at] ^ 0x80]) + body[at + 1 :]):
        with pytest.raises(HashesDamaged):
            list(read_keys([broken], "k"))


@pytest.mark.parametrize("rows", [1, 3])
def test_a_hash_file_of_another_number_of_rows_is_not_of_this_data(rows: int) -> None:
    body = b"".join(hash_rows([lines([(1, 1), (2, 2)])]))
    with pytest.raises(HashesDamaged):
        list(read_rows([body], "h", rows)[1])


def test_the_two_kinds_are_not_taken_for_each_other() -> None:
    with pytest.raises(HashesDamaged):
        read_keys(hash_rows([lines([(1, 1)])]), "k")
    with pytest.raises(HashesDamaged):
        read_rows(write_keys([bytes(16)]), "h", 1)


@pytest.mark.parametrize("body", [b"", b"{", lines([(1, 1)]) + b"{}\n" + lines([(2, 2)])])
def test_a_file_with_faults_is_not_hashed(body: bytes) -> None:
    with pytest.raises(DatasetRefused):
        list(hash_rows([body]))


def asked(text: str) -> bytes:
    (example,) = read_examples([text.encode()], FaultList(), None)
    return prompt_hash(example)


def test_the_prompt_is_all_that_stands_before_the_last_answer() -> None:
    chat = '{"messages": [%s{"role": "user", "content": "q"}, {"role": "assistant", "content": "%s"}]}'
    assert asked(chat % ("", "a")) == asked(chat % ("", "b"))
    assert asked(chat % ('{"role": "system", "content": "s"}, ', "a")) != asked(chat % ("", "a"))
    turns = '{"role": "user", "content": "1"}, {"role": "assistant", "content": "2", "weight": %d}, '
    assert asked(chat % (turns % 0, "a")) == asked(chat % (turns % 1, "b")) != asked(chat % ("", "a"))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ('{"prompt": "q", "completion": "a"}', '{"prompt": "q", "completion": "b"}', True),
        ('{"prompt": "q", "completion": "a"}', '{"prompt": "p", "completion": "a"}', False),
        ('{"instruction": "q", "output": "a"}', '{"instruction": "q", "output": "b"}', True),
        ('{"instruction": "q", "output": "a"}', '{"instruction": "q", "input": "x", "output": "a"}', False),
        ('{"text": "a"}', '{"text": "b"}', False),
        ('{"prompt": "q", "chosen": "a", "rejected": "b"}', '{"prompt": "q", "chosen": "c", "rejected": "a"}', True),
        (
            '{"prompt": "q", "completion": "a", "label": true}',
            '{"prompt": "q", "completion": "b", "label": false}',
            True,
        ),
    ],
)
def test_each_format_has_its_prompt(one: str, other: str, same: bool) -> None:
    assert (asked(one) == asked(other)) == same
