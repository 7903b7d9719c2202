from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotune.data.rows import Example, Message, content_hash, split_hash
from spotune.data.split import held_out

ROWS = [Example(number, "text", text=f"row {number}") for number in range(4000)]


def test_the_share_held_out_is_about_the_fraction() -> None:
    assert 320 < sum(held_out(row, 0.1, seed=0) for row in ROWS) < 480


def test_duplicates_fall_on_the_same_side_wherever_they_stand() -> None:
    for row in ROWS[:500]:
        twin = Example(9, "text", text=row.text, size=77)
        assert held_out(twin, 0.3, seed=5) == held_out(row, 0.3, seed=5) == held_out(content_hash(row), 0.3, seed=5)


@pytest.mark.parametrize("asked", ["text", "messages"])
def test_judged_answers_to_one_prompt_fall_on_the_same_side(asked: str) -> None:
    def pair(prompt: str, answer: str, rejected: str) -> Example:
        if asked == "text":
            sides = [Example(1, "preference", prompt=prompt, completion=text) for text in (answer, rejected)]
        else:
            user = Message("user", prompt)
            sides = [Example(1, "preference", (user, Message("assistant", text))) for text in (answer, rejected)]
        return replace(sides[0], rejected=sides[1])

    assert split_hash(pair("a", "b", "c")) == split_hash(pair("a", "c", "d")) != split_hash(pair("b", "b", "c"))
    good = replace(pair("a", "b", "c"), rejected=None, label=True)
    assert split_hash(good) == split_hash(replace(good, label=False)) != content_hash(good)
    for row in ROWS[:5]:
        assert split_hash(row) == content_hash(row)


def test_another_seed_holds_out_other_rows() -> None:
    first, second = ({row.number for row in ROWS if held_out(row, 0.2, seed=seed)} for seed in (1, 2))
    assert len(first & second) < 0.4 * len(first)


@given(st.floats(0, 0.5), st.floats(0, 0.5), st.integers(0, 2**31 - 1))
def test_a_larger_fraction_holds_out_a_superset(one: float, other: float, seed: int) -> None:
    small, large = sorted((one, other))
    assert all(held_out(row, large, seed) for row in ROWS[:50] if held_out(row, small, seed))


def test_content_is_hashed_part_by_part() -> None:
    rows = [
        Example(1, "completion", prompt="ab", completion="c"),
        Example(1, "completion", prompt="a", completion="bc"),
        Example(1, "text", text="abc"),
        Example(1, "chat", (Message("user", "abc"),)),
        Example(1, "chat", (Message("assistant", "abc"),)),
        Example(1, "chat", (Message("assistant", "abc", weight=0),)),
    ]
    assert len({content_hash(row) for row in rows}) == len(rows)
