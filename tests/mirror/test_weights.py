"""Safetensors files by their headers: what is whole is counted, whatever is not is refused."""

from __future__ import annotations

import json
import math
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from spotune.contracts.errors import RequestRefused
from spotune.mirror.weights import tensor_sizes
from tests.mirror.models import safetensors, with_header

TYPES = [np.float16, np.float32, np.float64, np.int8, np.int64, np.uint8, np.bool_]
SHAPES = st.lists(st.integers(0, 5), max_size=4)
TENSORS = st.dictionaries(st.text(min_size=1, max_size=8), st.tuples(SHAPES, st.sampled_from(TYPES)), max_size=6)
WHOLE = safetensors({"a": (4, 5), "b": (6,)})


def sizes(body: bytes) -> dict[str, int]:
    return tensor_sizes(BytesIO(body), len(body), "model.safetensors")


def refusal(body: bytes) -> str:
    with pytest.raises(RequestRefused) as refused:
        sizes(body)
    assert refused.value.code == "weights_damaged"
    return str(refused.value)


@given(TENSORS)
def test_what_the_formats_own_library_writes_is_counted(tensors: dict[str, tuple[list[int], type]]) -> None:
    body = save({name: np.zeros(shape, kind) for name, (shape, kind) in tensors.items()})
    assert sizes(body) == {name: math.prod(shape) for name, (shape, _) in tensors.items()}


@given(st.integers(0, len(WHOLE) - 1))
def test_a_file_that_is_cut_off_anywhere_is_refused(end: int) -> None:
    refusal(WHOLE[:end])


@given(st.binary(max_size=200))
def test_other_bytes_are_refused_and_nothing_else_happens(body: bytes) -> None:
    refusal(body)


def test_bytes_that_belong_to_no_tensor_are_refused() -> None:
    assert "its tensors end after 26 bytes, the file after 27" in refusal(WHOLE + b"x")


HEADERS: dict[str, object] = {
    "a gap": {"a": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}},
    "an overlap": {
        "a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]},
        "b": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]},
    },
    "a shape that is not its bytes": {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 2]}},
    "a length below nothing": {"a": {"dtype": "U8", "shape": [-1, -2], "data_offsets": [0, 2]}},
    "an unknown type": {"a": {"dtype": "PY", "shape": [2], "data_offsets": [0, 2]}},
    "no offsets": {"a": {"dtype": "U8", "shape": [2]}},
    "a list": [1],
    "a number for a tensor": {"a": 1},
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_header_that_does_not_fit_is_refused(case: str) -> None:
    refusal(with_header(json.dumps(HEADERS[case]).encode(), b"xx"))


def test_a_name_that_comes_twice_is_refused() -> None:
    one = '"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}'
    assert "twice" in refusal(with_header(f"{{{one}, {one}}}".encode(), b"xx"))


def test_a_header_that_claims_more_than_there_is_costs_no_memory() -> None:
    assert "longer than the file" in refusal((2**62).to_bytes(8, "little") + b"{}")


def test_a_deep_header_is_refused_as_any_other() -> None:
    refusal(with_header(b"[" * 100_000, b""))
