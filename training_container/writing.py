"""A checkpoint's files: hashed as they are written, in one pass, from tensors wherever they lie."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from spotune.contracts.training import ManifestFile

CHUNK = 1 << 20
"""Bytes that are written and hashed at once, small enough to stay in the processor's cache between the two."""

TENSORS_SUFFIX = ".safetensors"

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""As the safetensors format names them: https://github.com/huggingface/safetensors#format."""


class HashedFile:
    """A new file that knows its own sha256. It is on the disk, not only handed to the system, when it is closed.

    The libraries' own writers do not serve: they report a full disk as an error of their own, and reading a file
    again only to hash it costs training the memory's bandwidth a second time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("xb")
        self._hash = hashlib.sha256()
        self._bytes = 0

    def write(self, data: Any) -> int:
        """Anything that gives its bytes, as a file does.

        Raises:
            OSError: the disk is full.
        """
        view = memoryview(data).cast("B")
        for start in range(0, len(view), CHUNK):
            chunk = view[start : start + CHUNK]
            self._file.write(chunk)
            self._hash.update(chunk)
        self._bytes += len(view)
        return len(view)

    def flush(self) -> None:
        """Nothing: `torch.save` calls it, closing does it."""

    def described(self) -> ManifestFile:
        """What the manifest says of it."""
        return ManifestFile(name=self._path.name, bytes=self._bytes, sha256=self._hash.hexdigest())

    def __enter__(self) -> HashedFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            self._file.close()


def write_file(path: Path, content: Any) -> ManifestFile:
    """Write bytes as they are, tensors by name as safetensors where the file is called so, and the rest by torch.

    Raises:
        OSError: the disk is full.
    """
    with HashedFile(path) as file:
        if isinstance(content, bytes):
            file.write(content)
        elif path.suffix == TENSORS_SUFFIX:
            _write_tensors(file, content)
        else:
            torch.save(content, file)  # type: ignore[arg-type] # of a file it uses write and flush
    return file.described()


def _write_tensors(file: HashedFile, tensors: Mapping[str, torch.Tensor]) -> None:
    """One tensor after another, the widest types first, so that each is aligned for a reader that maps the file."""
    ordered = sorted(tensors.items(), key=lambda item: -item[1].element_size())
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in ordered:
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    file.write(len(encoded).to_bytes(8, "little"))
    file.write(encoded)
    for _, tensor in ordered:
        file.write(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
