"""Safetensors files, read by their headers alone: whole, and nothing in them but numbers.

The format: eight bytes with the length of a JSON object (little-endian), the object, then the tensors' bytes without a
gap. https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Protocol

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from spotune.contracts.errors import RequestRefused

LONGEST_HEADER = 100_000_000
"""Bytes; as the format's own library has it."""
_BYTES: Mapping[str, int] = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64"), 8),
}


class _Tensor(BaseModel):
    dtype: str
    shape: list[int] = Field(max_length=16)
    data_offsets: tuple[int, int]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


_TENSORS = TypeAdapter(dict[str, _Tensor])


class Readable(Protocol):
    """A file from its beginning on."""

    def read(self, count: int, /) -> bytes:
        """The next bytes."""
        ...


def tensor_sizes(file: Readable, size: int, name: str) -> dict[str, int]:
    """How many numbers each tensor of a file has; no more than its header is read.

    Args:
        size: of the file, in bytes.
        name: as messages call it.

    Raises:
        RequestRefused: it is no whole safetensors file.
    """
    header, room = _read_header(file, size, name)
    tensors = _parse(header, name)
    _check_layout(tensors.values(), room, name)
    return {tensor: one.elements for tensor, one in tensors.items()}


def _read_header(file: Readable, size: int, name: str) -> tuple[bytes, int]:
    """The header, and how many bytes the tensors have."""
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(LONGEST_HEADER, size - 8):
        raise _damaged(name, "its header is longer than the file, or than the format allows")
    return file.read(length), size - 8 - length


def _parse(header: bytes, name: str) -> dict[str, _Tensor]:
    try:
        document = json.loads(header, object_pairs_hook=_without_doubles)
        if not isinstance(document, dict):
            raise ValueError("it is something else")
        document.pop("__metadata__", None)
        return _TENSORS.validate_python(document)
    except ValidationError as error:
        raise _damaged(name, f"its header does not validate: {error.errors(include_url=False)[0]['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise _damaged(name, f"its header is no JSON object: {error}") from None


def _without_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name comes twice")
    return found


def _check_layout(tensors: Iterable[_Tensor], room: int, name: str) -> None:
    """Every byte belongs to one tensor."""
    end = 0
    for tensor in sorted(tensors, key=lambda one: one.data_offsets):
        if tensor.dtype not in _BYTES or any(length < 0 for length in tensor.shape):
            raise _damaged(name, f"a tensor has the type {tensor.dtype} and the shape {tensor.shape}")
        if tensor.data_offsets != (end, end + tensor.elements * _BYTES[tensor.dtype]):
            raise _damaged(name, f"a tensor lies at {tensor.data_offsets}, which is not where its shape puts it")
        end = tensor.data_offsets[1]
    if end != room:
        raise _damaged(name, f"its tensors end after {end} bytes, the file after {room}")


def _damaged(name: str, what: str) -> RequestRefused:
    return RequestRefused(
        f"{name} is no whole safetensors file: {what}.",
        code="weights_damaged",
        param="model",
        remedy="Tell the model's author, or take another revision.",
    )
