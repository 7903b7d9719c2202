"""Which rows a retraining trains on: over any files, in any order, cut anywhere."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotune.contracts.errors import DatasetRefused
from spotune.contracts.rules import ManifestEntry, Selection
from spotune.data.assembly import passes
from spotune.data.assembly.choosing import choose_rows, count_new, known_after
from spotune.data.assembly.copying import dataset_bytes
from spotune.data.assembly.sources import Source
from tests.data.assembly.shelf import Row, Shelf, line

ROWS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)), max_size=40)
FILES = st.lists(ROWS, min_size=1, max_size=5)


def chosen(
    shelf: Shelf,
    new: list[Source],
    old: list[Source],
    known: str | None,
    keys: str | None,
    number: int = 2,
    **how: object,
) -> tuple[ManifestEntry, ...]:
    selection = Selection.model_validate({"rows": "new", **how})
    return choose_rows(new, old, shelf.open, selection=selection, number=number, known_uri=known, keys_uri=keys)


def champion_of(shelf: Shelf, old: list[Source], keys: str | None = None) -> str:
    """What a model knows that was trained on all of these."""
    entries = chosen(shelf, old, [], None, keys, number=1)
    return shelf.keep("s3://b/known.keys", known_after(old, entries, shelf.open, earlier_uri=None))


@given(FILES)
def test_new_rows_are_each_row_once_in_the_order_of_its_first_coming(files: list[list[Row]]) -> None:
    shelf = Shelf()
    sources = shelf.add_all(files)
    entries = chosen(shelf, sources, [], None, None)
    assert shelf.rows(entries) == list(dict.fromkeys(row for rows in files for row in rows))
    assert count_new(sources, shelf.open, known_uri=None, keys_uri=None) == sum(entry.taken for entry in entries)


@given(FILES, FILES)
def test_what_the_champion_knows_is_not_new(before: list[list[Row]], after: list[list[Row]]) -> None:
    shelf = Shelf()
    old, new = shelf.add_all(before, "s3://b/old"), shelf.add_all(after)
    known = champion_of(shelf, old)
    fresh = {row for rows in after for row in rows} - {row for rows in before for row in rows}
    assert set(shelf.rows(chosen(shelf, new, old, known, None))) == fresh
    assert count_new(new, shelf.open, known_uri=known, keys_uri=None) == len(fresh)


@given(FILES, FILES, st.sampled_from(["new", "all", "new_and_replay"]), st.integers(1, 20))
def test_no_frozen_row_or_prompt_and_no_duplicate_is_ever_trained_on(
    before: list[list[Row]], after: list[list[Row]], rows: str, most: int
) -> None:
    shelf = Shelf()
    old, new = shelf.add_all(before, "s3://b/old"), shelf.add_all(after)
    if len({row for file in before for row in file}) < 2:
        return
    carved, keys = shelf.carve(old, fraction=0.3, max_rows=most)
    frozen = shelf.rows(carved.entries)
    trained = shelf.rows(chosen(shelf, new, old, champion_of(shelf, old, keys), keys, rows=rows))
    assert len(trained) == len(set(trained))
    assert not {*trained} & {*frozen}
    if shared_by(frozen, before) <= min(most, 10):
        assert not {prompt for prompt, _ in trained} & {prompt for prompt, _ in frozen}


def shared_by(frozen: list[Row], files: list[list[Row]]) -> int:
    """Rows that share the prompt of a frozen row, at the most; above a limit they are frozen one by one."""
    everything = {row for file in files for row in file}
    most = max((sum(1 for row in everything if row[0] == prompt) for prompt, _ in frozen), default=0)
    return most if 2 * most <= len(everything) else 1000


@given(FILES, FILES, st.floats(0.05, 0.9), st.integers(0, 3))
def test_replay_is_the_share_within_one_row_and_the_same_for_the_same_seed(
    before: list[list[Row]], after: list[list[Row]], share: float, seed: int
) -> None:
    shelf = Shelf()
    old, new = shelf.add_all(before, "s3://b/old"), shelf.add_all(after)
    known = champion_of(shelf, old)
    how = {"rows": "new_and_replay", "replay_share": share, "seed": seed}
    entries = chosen(shelf, new, old, known, None, **how)
    fresh = sum(entry.taken for entry in entries if entry.role == "new")
    replayed = [entry for entry in entries if entry.role == "replay"]
    again = sum(entry.taken for entry in replayed)
    everything_old = {row for file in before for row in file}
    wanted = fresh * share / (1 - share)
    assert abs(again - wanted) <= 0.5 or (again < wanted and again == len(everything_old))
    assert {*shelf.rows(replayed)} <= everything_old
    assert chosen(shelf, new, old, known, None, **how) == entries


def test_each_retraining_has_a_draw_of_its_own_and_every_old_row_its_chance() -> None:
    shelf = Shelf()
    old = shelf.add_all([[(number, 0) for number in range(400)]], "s3://b/old")
    new = shelf.add_all([[(number, 0) for number in range(1000, 1400)]])
    known, how = champion_of(shelf, old), {"rows": "new_and_replay", "replay_share": 0.2}
    draws = [shelf.rows(chosen(shelf, new, old, known, None, number, **how))[400:] for number in range(40)]
    assert {len(draw) for draw in draws} == {100}
    assert len({tuple(draw) for draw in draws}) == 40
    drawn = [sum(row in draw for draw in draws) for row in ((number, 0) for number in range(400))]
    assert min(drawn) > 0
    assert max(drawn) < 25


@given(FILES, st.randoms(use_true_random=False))
def test_how_old_rows_are_spread_over_files_does_not_change_the_draw(files: list[list[Row]], random: object) -> None:
    rows = list(dict.fromkeys(row for file in files for row in file))
    drawn = []
    for cut in (1, 3):
        random.shuffle(rows)  # type: ignore[attr-defined]
        shelf = Shelf()
        old = shelf.add_all([rows[at::cut] for at in range(cut)], "s3://b/old")
        new = shelf.add_all([[(number, 9) for number in range(10)]])
        known, how = champion_of(shelf, old), {"rows": "new_and_replay", "replay_share": 0.3}
        drawn.append({*shelf.rows(chosen(shelf, new, old, known, None, **how))})
    assert drawn[0] == drawn[1]


@given(FILES, FILES)
@settings(max_examples=30)
def test_more_passes_choose_the_same(before: list[list[Row]], after: list[list[Row]]) -> None:
    picks = []
    for budget in (passes.BUDGET_BYTES, 1500):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(passes, "BUDGET_BYTES", budget)
            shelf = Shelf()
            old, new = shelf.add_all(before, "s3://b/old"), shelf.add_all(after)
            known = champion_of(shelf, old)
            picks.append((shelf.bodies[known], chosen(shelf, new, old, known, None, rows="new_and_replay")))
    assert picks[0] == picks[1]


def test_counting_reads_hash_files_and_no_data() -> None:
    shelf = Shelf()
    sources = shelf.add_all([[(1, 1), (2, 2)], [(1, 1), (3, 3)]])
    known = champion_of(shelf, sources[:1])
    shelf.opened.clear()
    assert count_new(sources, shelf.open, known_uri=known, keys_uri=None) == 1
    assert not [uri for uri in shelf.opened if uri.endswith(".jsonl")]


def test_what_a_model_knows_grows_where_it_goes_on_from_another() -> None:
    shelf = Shelf()
    old, new = shelf.add_all([[(1, 1), (2, 2)]], "s3://b/old"), shelf.add_all([[(3, 3), (1, 1)]])
    before = champion_of(shelf, old)
    entries = chosen(shelf, new, old, before, None)
    after = shelf.keep("s3://b/after.keys", known_after(new, entries, shelf.open, earlier_uri=before))
    later = shelf.add_all([[(1, 1), (2, 2), (3, 3), (4, 4)]], "s3://b/later")
    assert shelf.rows(chosen(shelf, later, [], after, None)) == [(4, 4)]


def test_rows_keep_their_own_bytes() -> None:
    odd = b'{"messages":[ {"content":"caf\\u00e9", "role":"user"},\t{"role":"assistant","content":"\xc3\xa9"} ]}\r'
    shelf = Shelf()
    source = shelf.add("s3://b/odd.jsonl", odd + b"\n" + line((1, 1)) + line((1, 1)) + b"\n \n")
    assert b"".join(dataset_bytes(chosen(shelf, [source], [], None, None), shelf.open)) == odd + b"\n" + line((1, 1))


def test_a_last_row_without_a_newline_does_not_run_into_the_next_file_s_first() -> None:
    shelf = Shelf()
    sources = [shelf.add("s3://b/1", line((1, 1)).rstrip()), shelf.add("s3://b/2", line((2, 2)))]
    assert shelf.rows(chosen(shelf, sources, [], None, None)) == [(1, 1), (2, 2)]


@pytest.mark.parametrize("rows", ["new", "all", "new_and_replay"])
def test_files_of_different_formats_are_refused_by_name(rows: str) -> None:
    shelf = Shelf()
    chat = shelf.add("s3://b/chat.jsonl", line((1, 1)))
    pair = shelf.add("s3://b/pairs.jsonl", json.dumps({"prompt": "a", "completion": "b"}).encode())
    with pytest.raises(DatasetRefused) as refused:
        chosen(shelf, [chat, pair], [], None, None, rows=rows)
    assert refused.value.code == "mixed_formats"
    assert "s3://b/pairs.jsonl has rows of the completion format" in str(refused.value)
    assert "s3://b/chat.jsonl" in str(refused.value)
