import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training_container.evaluation.bootstrap import interval_of_difference

VALUES = st.floats(-1e6, 1e6)
ROWS = st.lists(st.tuples(VALUES, VALUES, st.integers(1, 1000)), min_size=1, max_size=30)


@settings(max_examples=25)
@given(ROWS)
def test_the_interval_holds_the_difference_and_is_the_same_each_time(rows: list[tuple[float, float, int]]) -> None:
    before, after, weights = (list(column) for column in zip(*rows, strict=True))
    low, high = interval_of_difference(before, after, weights)
    difference = sum((b - a) * w for a, b, w in rows) / sum(weights)
    assert low <= difference + 1e-6
    assert difference - 1e-6 <= high
    assert interval_of_difference(before, after, weights) == (low, high)
    turned = interval_of_difference(after, before, weights)
    assert turned == pytest.approx((-high, -low), abs=1e-3)


def test_rows_that_all_differ_alike_leave_no_doubt() -> None:
    assert interval_of_difference([1.0, 2.0, 3.0], [1.5, 2.5, 3.5], [5, 1, 9]) == (0.5, 0.5)


def test_pairs_are_drawn_together() -> None:
    """Rows of very different hardness, each a little better: unpaired, the interval would be some 100 wide."""
    before = [float(1000 * number) for number in range(50)]
    low, high = interval_of_difference(before, [value - 1 - number % 3 for number, value in enumerate(before)])
    assert -3 <= low < high <= -1


def test_a_row_counts_by_its_weight() -> None:
    low, high = interval_of_difference([0.0, 0.0], [1.0, 0.0], [1_000_000, 1])
    assert high == 1
    assert low == pytest.approx(0, abs=1e-6)
    assert interval_of_difference([0.0] * 9, [1.0] + [0.0] * 8, [1_000_000] + [1] * 8)[1] == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("lengths", [(0, 0, 0), (2, 1, 2), (2, 2, 1)])
def test_what_is_no_pairs_is_refused(lengths: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="are no pairs"):
        interval_of_difference(*([1.0] * length for length in lengths))


def test_about_95_of_100_intervals_hold_the_true_difference() -> None:
    """Of 200 simulated comparisons with 60 rows of uneven weight, 190 are expected to, give or take 3 at a time."""
    generator = numpy.random.default_rng(7)
    held = 0
    for _ in range(200):
        weights = generator.integers(1, 200, size=60)
        before = generator.normal(2.0, 1.0, size=60)
        after = before - 0.1 + generator.normal(0.0, 0.5, size=60)
        low, high = interval_of_difference(before.tolist(), after.tolist(), weights.tolist())
        held += low <= -0.1 <= high
    assert 178 <= held <= 199
