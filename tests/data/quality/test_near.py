"""MinHash against the exact Jaccard index, and what is made of it."""

from __future__ import annotations

import subprocess
import sys
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from spotune.data.quality import near
from spotune.data.quality.near import BINS, NEAR, estimate, jaccard, near_duplicates, near_matches, shingles, signature
from spotune.data.quality.sampling import SampledRow

WORDS = [f"w{number}" for number in range(500)]


def row(line: int, text: str) -> SampledRow:
    return SampledRow(line, 0, text)


def text(random: Random, length: int) -> str:
    return " ".join(random.choices(WORDS, k=length))


def changed(random: Random, original: str, words: int) -> str:
    parts = original.split()
    for place in random.sample(range(len(parts)), words):
        parts[place] = random.choice(WORDS) + "x"
    return " ".join(parts)


@given(seed=st.integers(0, 10**6), length=st.integers(100, 600), share=st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_an_estimate_is_within_its_error_of_the_exact_index(seed: int, length: int, share: float) -> None:
    random = Random(seed)
    one = text(random, length)
    features = shingles(one), shingles(changed(random, one, int(share * length / 4)))
    exact = jaccard(*features)
    error = 5 * (exact * (1 - exact) / BINS) ** 0.5 + 2 / BINS  # five standard deviations of a binomial share
    assert abs(estimate(*map(signature, features)) - exact) <= error


def test_estimates_are_right_on_average_for_short_texts_too() -> None:
    """Fewer shingles than bins: most bins are borrowed."""
    random = Random(5)
    errors = []
    for _ in range(300):
        one = text(random, 20)
        features = shingles(one), shingles(changed(random, one, 2))
        errors.append(estimate(*map(signature, features)) - jaccard(*features))
    assert abs(sum(errors) / len(errors)) < 0.03


@given(st.text(min_size=0, max_size=60), st.text(min_size=0, max_size=60))
@settings(max_examples=200, deadline=None)
def test_a_signature_depends_on_the_set_alone(one: str, other: str) -> None:
    assert signature(shingles(one)) == signature({*sorted(shingles(one), reverse=True)})
    if shingles(one) == shingles(other):
        assert signature(shingles(one)) == signature(shingles(other))
    assert jaccard(shingles(one), shingles(one)) == 1


def test_nearly_all_pairs_above_the_limit_are_found_and_none_below_it() -> None:
    random = Random(11)
    rows, above, below = [], set(), set()
    for number in range(0, 1200, 2):
        original = text(random, random.randrange(30, 300))
        copy = changed(random, original, random.randrange(0, len(original.split()) // 8))
        rows += [row(number + 1, original), row(number + 2, copy)]
        (above if jaccard(shingles(original), shingles(copy)) >= NEAR else below).add(number + 2)
    found = {pair.line for pair in near_duplicates(rows)}
    assert len(above) > 200
    assert len(below) > 100
    assert not found - above
    assert len(found) >= 0.99 * len(above)


def test_a_pair_says_which_row_and_how_alike() -> None:
    random = Random(2)
    original = text(random, 100)
    copy = original + " and more"
    (pair,) = near_duplicates([row(3, text(random, 80)), row(7, original), row(9, copy)])
    assert (pair.line, pair.other) == (9, 7)
    assert pair.similarity == jaccard(shingles(original), shingles(copy))
    assert near_matches([row(1, copy)], [row(5, original)])[0].other == 5
    assert near_matches([row(1, text(random, 50))], [row(5, original)]) == []


def test_texts_without_spaces_are_told_apart_by_their_characters() -> None:
    one, other = (
        "法国的首都是巴黎，它位于塞纳河畔，是一座美丽而古老的大城市。",
        "日本的首都是东京，那里有很多很多的人和非常高的楼。",
    )
    pairs = near_duplicates([row(1, one), row(2, other), row(3, one + "对。")])
    assert [(pair.line, pair.other) for pair in pairs] == [(3, 1)]


def test_many_copies_of_one_row_are_compared_with_one_and_not_with_each_other() -> None:
    random = Random(3)
    original = text(random, 200)
    compared = 0
    exact = near.jaccard

    def counted(one: set[int], other: set[int]) -> float:
        nonlocal compared
        compared += 1
        return exact(one, other)

    near.jaccard = counted
    try:
        rows = [row(number + 1, f"{original} {number}") for number in range(300)]
        assert len(near_duplicates(rows)) == 299
    finally:
        near.jaccard = exact
    assert compared < 16 * 300


def test_signatures_are_the_same_in_every_process() -> None:
    """Python's hash of a string is not."""
    program = "from spotune.data.quality.near import *; print(signature(shingles('the quick brown fox jumps over it')))"
    printed = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1
