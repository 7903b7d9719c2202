"""Repositories as authors make them."""

from __future__ import annotations

import json

from tests import tiny_model

NAME = "org/tiny"
OPEN = {"license": "apache-2.0"}


def safetensors(tensors: dict[str, tuple[int, ...]], fill: int = 0) -> bytes:
    """A file with these tensors of bytes."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in tensors.items():
        size = 1
        for length in shape:
            size *= length
        header[name] = {"dtype": "U8", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    return with_header(json.dumps(header).encode(), bytes([fill]) * end)


def with_header(header: bytes, body: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + body


def small() -> dict[str, bytes]:
    files = {name: body for name, body in tiny_model.files().items() if name != "spotune.json"}
    return files | {"LICENSE": b"Do as you like.", "README.md": b"---\nlicense: apache-2.0\n---\n# Tiny"}


def single() -> dict[str, bytes]:
    """One file of weights, and what else lies about in a repository."""
    return small() | {
        "model.safetensors": safetensors({"a": (100, 100), "b": (7,)}),
        "pytorch_model.bin": b"\x80\x04pickled",
        "modeling_tiny.py": b"import os",
        "onnx/model.onnx": b"onnx",
        ".gitattributes": b"*.bin filter=lfs",
    }


def sharded(fill: int = 0) -> dict[str, bytes]:
    """Three files of weights with their index, and the same weights in another cut."""
    shards = {f"model-0000{number}-of-00003.safetensors": f"layer.{number}" for number in (1, 2, 3)}
    weights = {file: safetensors({tensor: (50_000,)}, fill) for file, tensor in shards.items()}
    index = {"metadata": {"total_size": 150_000}, "weight_map": {tensor: file for file, tensor in shards.items()}}
    files = small() | weights | {"model.safetensors.index.json": json.dumps(index).encode()}
    return files | {"consolidated.safetensors": safetensors({"all": (150_000,)})}
