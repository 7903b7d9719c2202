"""The evaluation set: the same rows whatever the order and the files, and as many as were asked for."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotune.contracts.errors import DatasetRefused
from spotune.contracts.rules import FrozenSet
from spotune.data.assembly import passes
from spotune.data.assembly.frozen import carve
from spotune.data.assembly.hashes import read_keys
from tests.data.assembly.shelf import Row, Shelf

DISTINCT = st.sets(st.tuples(st.integers(0, 20), st.integers(0, 4)), min_size=2, max_size=100).map(sorted)
"""Rows of which up to five ask the same."""


@given(DISTINCT, st.integers(1, 6), st.randoms(use_true_random=False), st.floats(0.01, 0.5), st.integers(1, 40))
def test_neither_order_nor_files_nor_duplicates_nor_passes_change_it(
    rows: list[Row], cut: int, random: object, fraction: float, most: int
) -> None:
    carved = []
    for files, budget in ((1, passes.BUDGET_BYTES), (cut, 2000)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(passes, "BUDGET_BYTES", budget)
            shelf = Shelf()
            sources = shelf.add_all([rows[at::files] for at in range(files)])
            found, keys = shelf.carve(sources, fraction=fraction, max_rows=most)
            carved.append(({*shelf.rows(found.entries)}, found.rows, shelf.bodies[keys]))
        random.shuffle(rows)  # type: ignore[attr-defined]
        rows += rows[:3]
    assert carved[0] == carved[1]


@given(DISTINCT, st.floats(0.01, 0.5), st.integers(1, 6) | st.integers(1, 40))
def test_it_is_never_more_than_was_asked_for_and_hardly_less(rows: list[Row], fraction: float, most: int) -> None:
    shelf = Shelf()
    carved, _ = shelf.carve(shelf.add_all([rows]), fraction=fraction, max_rows=most)
    wanted = min(most, max(1, int(len(rows) * fraction)))
    assert 1 <= carved.rows <= most
    assert wanted - 5 < carved.rows < wanted + 5, "the last prompt may bring up to five rows, or none"


def test_of_rows_that_share_no_prompt_it_is_exactly_the_share() -> None:
    shelf = Shelf()
    sources = shelf.add_all([[(number, 0) for number in range(1000)]])
    assert shelf.carve(sources, fraction=0.1, max_rows=1000)[0].rows == 100
    assert shelf.carve(sources, fraction=0.1, max_rows=30)[0].rows == 30


def test_another_rule_freezes_other_rows() -> None:
    shelf = Shelf()
    sources = shelf.add_all([[(number, 0) for number in range(1000)]])
    first, second = (shelf.rows(shelf.carve(sources, rule_id=name)[0].entries) for name in ("rule-1", "rule-2"))
    assert 0 < len({*first} & {*second}) < 40


def test_a_prompt_that_most_rows_share_is_not_frozen_with_all_of_them() -> None:
    shelf = Shelf()
    rows = [(0, number) for number in range(900)] + [(number, 0) for number in range(1, 101)]
    carved, keys = shelf.carve(shelf.add_all([rows]), fraction=0.1, max_rows=1000)
    frozen = shelf.rows(carved.entries)
    assert len(frozen) == 100
    assert 80 < sum(prompt == 0 for prompt, _ in frozen) < 98, "every row has the same chance"
    assert len(list(read_keys(shelf.open(keys, ""), keys))) == 100


@pytest.mark.parametrize("most", range(1, 8))
def test_the_most_is_the_most_where_prompts_come_in_twos(most: int) -> None:
    shelf = Shelf()
    sources = shelf.add_all([[(prompt, answer) for prompt in range(30) for answer in range(2)]])
    assert shelf.carve(sources, fraction=0.5, max_rows=most)[0].rows == max(1, most // 2 * 2)


def test_such_a_prompt_is_never_drawn_as_a_whole() -> None:
    shelf = Shelf()
    rows = [(0, number) for number in range(270)] + [(number, 0) for number in range(1, 31)]
    sources = shelf.add_all([rows])
    carved = [shelf.carve(sources, rule_id=f"rule-{number}")[0].rows for number in range(60)]
    assert carved == [30] * 60


@pytest.mark.parametrize("rows", [[], [(1, 1)], [(1, 1), (1, 1)]])
def test_there_is_nothing_to_carve_from_less_than_two_rows(rows: list[Row]) -> None:
    shelf = Shelf()
    with pytest.raises(DatasetRefused) as refused:
        carve(shelf.add_all([rows]), shelf.open, frozen=FrozenSet(), rule_id="rule-1")
    assert refused.value.code == "too_few_rows"


def test_it_is_carved_from_one_format() -> None:
    shelf = Shelf()
    shelf.add("s3://b/pairs", json.dumps({"prompt": "a", "completion": "b"}).encode())
    sources = [*shelf.add_all([[(1, 1)]]), shelf.add("s3://b/pairs", b'{"prompt": "a", "completion": "b"}')]
    with pytest.raises(DatasetRefused, match="s3://b/pairs"):
        carve(sources, shelf.open, frozen=FrozenSet(), rule_id="rule-1")
