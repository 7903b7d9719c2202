import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotune.data.packing import pack

LENGTHS = st.lists(st.integers(1, 50), max_size=80)


@given(LENGTHS)
def test_every_row_is_packed_once_within_capacity(lengths: list[int]) -> None:
    sequences = pack(lengths, 50)
    assert sorted(index for sequence in sequences for index in sequence) == list(range(len(lengths)))
    assert all(0 < sum(lengths[index] for index in sequence) <= 50 for sequence in sequences)


@given(LENGTHS)
def test_packing_is_first_fit_decreasing(lengths: list[int]) -> None:
    naive: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        for sequence in naive:
            if sum(lengths[other] for other in sequence) + lengths[index] <= 50:
                sequence.append(index)
                break
        else:
            naive.append([index])
    assert pack(lengths, 50) == naive


def test_a_row_longer_than_a_sequence_is_refused() -> None:
    with pytest.raises(ValueError, match="row 1 has 51 tokens"):
        pack([3, 51], 50)


def test_packing_does_not_try_every_sequence_for_every_row() -> None:
    """Rows of which no two fit together: trying all would take billions of steps."""
    assert len(pack([600] * 60_000, 1000)) == 60_000
