import pytest
from hypothesis import given
from hypothesis import strategies as st

from training_container.evaluation.rouge import common_subsequence, rouge_l

WORDS = st.lists(st.sampled_from("abcd"), max_size=12)

PUBLISHED = {
    # Lin 2004, section 3.1: with beta = 1, S2 scores 3/4 and S3 2/4 against S1; S4 shares one of two orders only.
    "lin 2004, S2": ("police kill the gunman", "police killed the gunman", 0.75),
    "lin 2004, S3": ("the gunman kill police", "police killed the gunman", 0.5),
    "lin 2004, S4": ("the gunman police killed", "police killed the gunman", 0.5),
    # The README of the package rouge-score: precision 5/8, recall 5/9.
    "rouge-score": (
        "The quick brown dog jumps on the log.",
        "The quick brown fox jumps over the lazy dog",
        2 * (5 / 8) * (5 / 9) / (5 / 8 + 5 / 9),
    ),
    "equal but for case and marks": ("Yes, it is!", "yes it is", 1.0),
    "nothing in common": ("no", "yes", 0.0),
    "empty answer": ("", "yes", 0.0),
    "marks alone": ("!?", "!?", 1.0),
    "other marks": ("!?", "...", 0.0),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_examples_worked_by_hand_come_out(name: str) -> None:
    answer, reference, expected = PUBLISHED[name]
    assert rouge_l(answer, reference) == pytest.approx(expected)


@given(WORDS, WORDS)
def test_the_bits_count_what_the_textbook_table_counts(ours: list[str], theirs: list[str]) -> None:
    table = [[0] * (len(theirs) + 1) for _ in range(len(ours) + 1)]
    for i, left in enumerate(ours):
        for j, right in enumerate(theirs):
            table[i + 1][j + 1] = table[i][j] + 1 if left == right else max(table[i][j + 1], table[i + 1][j])
    assert common_subsequence(ours, theirs) == table[-1][-1]


@given(st.text(), st.text())
def test_it_is_a_share_and_takes_no_side(answer: str, reference: str) -> None:
    score = rouge_l(answer, reference)
    assert 0 <= score <= 1
    assert score == rouge_l(reference, answer)
