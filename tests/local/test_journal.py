"""The table's journal: what a kill leaves, read again, is what was answered."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotune.local.journal import LONGEST_BYTES, Journal, follow, merge

ARN = "arn:aws:dynamodb:us-east-1:000000000000:table/spotune"


def item(value: str) -> dict[str, Any]:
    return {"pk": {"S": "a"}, "body": {"S": value}}


def snapshot(path: Path, items: dict[str, dict[str, Any]] | None = None) -> None:
    held = items or {}
    table = {"TableArn": ARN, "items": held, "ItemCount": sum(len(one) for one in held.values())}
    path.write_text(json.dumps({"payload": {"tables": {"data": {"x": table}}}}))


def table_of(path: Path) -> dict[str, Any]:
    table: dict[str, Any] = json.loads(path.read_bytes())["payload"]["tables"]["data"]["x"]
    return table


def test_what_was_noted_is_in_the_snapshot_after_the_next_start(tmp_path: Path) -> None:
    state, path = tmp_path / "dynamodb.json", tmp_path / "dynamodb.journal"
    snapshot(state, {"JOB#1": {"JOB": item("old"), "LOG#1": item("line")}})
    journal = Journal(path)
    journal.note(ARN, "JOB#1", "JOB", item("new"))
    journal.note(ARN, "JOB#2", "JOB", item("second"))
    journal.note(ARN, "JOB#1", "LOG#1", None)
    journal.flush()
    merge(state, path)
    assert table_of(state)["items"] == {"JOB#1": {"JOB": item("new")}, "JOB#2": {"JOB": item("second")}}
    assert table_of(state)["ItemCount"] == 2
    assert not path.exists()


def test_a_line_that_a_kill_cut_off_is_left_out(tmp_path: Path) -> None:
    state, path = tmp_path / "dynamodb.json", tmp_path / "dynamodb.journal"
    snapshot(state)
    journal = Journal(path)
    journal.note(ARN, "JOB#1", "JOB", item("answered"))
    journal.flush()
    with path.open("ab") as file:
        file.write(b'["arn:aws:dynamodb:us-east-1')
    merge(state, path)
    assert table_of(state)["items"] == {"JOB#1": {"JOB": item("answered")}}


def test_a_kill_between_snapshot_and_the_journals_end_changes_nothing(tmp_path: Path) -> None:
    state, path = tmp_path / "dynamodb.json", tmp_path / "dynamodb.journal"
    snapshot(state, {"JOB#1": {"JOB": item("newest")}})
    journal = Journal(path)
    for value in ("first", None, "newest"):
        journal.note(ARN, "JOB#1", "JOB", item(value) if value else None)
    journal.flush()
    merge(state, path)
    assert table_of(state)["items"] == {"JOB#1": {"JOB": item("newest")}}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), st.none() | st.text(max_size=3)), max_size=30))
def test_any_history_is_read_back_as_it_ended(history: list[tuple[str, str, str | None]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        state, path = Path(folder, "dynamodb.json"), Path(folder, "dynamodb.journal")
        snapshot(state)
        journal, expected = Journal(path), {}
        for partition, sort, value in history:
            journal.note(ARN, partition, sort, None if value is None else item(value))
            journal.flush()
            expected[partition, sort] = value
        merge(state, path)
        found = {(p, s): one["body"]["S"] for p, held in table_of(state)["items"].items() for s, one in held.items()}
        assert found == {key: value for key, value in expected.items() if value is not None}
        assert table_of(state)["ItemCount"] == len(found)


def test_a_table_that_the_snapshot_has_not_asks_for_another_snapshot(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    journal.begin_anew(frozenset({ARN}), 0)
    journal.note(ARN, "a", "b", item("x"))
    assert not journal.needs_snapshot
    journal.note(ARN + "-2", "a", "b", item("x"))
    assert journal.needs_snapshot


def test_a_long_journal_asks_for_a_snapshot_once_it_is_longer_than_that(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    journal.begin_anew(frozenset({ARN}), 3 * LONGEST_BYTES)
    journal.length = 2 * LONGEST_BYTES
    assert not journal.needs_snapshot
    journal.length = 3 * LONGEST_BYTES + 1
    assert journal.needs_snapshot
    journal.begin_anew(frozenset({ARN}), LONGEST_BYTES)
    assert not journal.needs_snapshot


def test_a_write_that_fails_is_tried_again_and_leaves_no_half_line(tmp_path: Path) -> None:
    class Full:
        """A disk that takes half of the first write."""

        def __init__(self, file: Any) -> None:
            self.file, self.full = file, True

        def write(self, body: bytes) -> int:
            if self.full:
                self.full = False
                return int(self.file.write(body[: len(body) // 2]))
            return int(self.file.write(body))

        def truncate(self, length: int) -> None:
            self.file.truncate(length)

    state, path = tmp_path / "dynamodb.json", tmp_path / "dynamodb.journal"
    snapshot(state)
    journal = Journal(path)
    journal._file = Full(journal._file)
    journal.note(ARN, "a", "b", item("x"))
    with pytest.raises(OSError, match="bytes of the journal"):
        journal.flush()
    assert path.read_bytes() == b""
    journal.flush()
    merge(state, path)
    assert table_of(state)["items"] == {"a": {"b": item("x")}}


def test_ministacks_two_ways_to_change_an_item_are_followed(tmp_path: Path) -> None:
    from ministack.services import dynamodb

    followed = SimpleNamespace(_set_item=dynamodb._set_item, _remove_item=dynamodb._remove_item)
    journal = Journal(tmp_path / "journal")
    follow(followed, journal)
    table: dict[str, Any] = {"TableArn": ARN, "items": {}}
    followed._set_item(table, "a", "b", item("x"))
    followed._remove_item(table, "a", "b")
    journal.flush()
    lines = [json.loads(line) for line in (tmp_path / "journal").read_text().splitlines()]
    assert lines == [[ARN, "a", "b", item("x")], [ARN, "a", "b", None]]
    assert table["items"] == {}
