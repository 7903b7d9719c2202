"""Puts a base model into the stack's models bucket, once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from boto3.s3.transfer import TransferConfig

from spotune.contracts.errors import RequestRefused
from spotune.contracts.layout import MODEL_MARKER, base_model_uri, split_uri
from spotune.local.deployment import client
from spotune.local.state import StackState

PART_BYTES = 16 * 1024**2

# Three parts on the way at once keep both sides' memory below what one large object takes anyway.
_TRANSFER = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=3)


def add_base_model(state: StackState, folder: Path, name: str) -> str:
    """Upload a base model's folder, its marker last, so that nobody sees half a model.

    Objects that lie there already with the same bytes are left alone; a second call costs a look at each file.

    Args:
        state: the stack.
        folder: holds config.json, tokenizer files, *.safetensors and spotune.json.
        name: the model's name in requests, such as `HuggingFaceTB/SmolLM2-135M-Instruct`.

    Returns:
        The model's folder in S3.

    Raises:
        RequestRefused: the folder has no spotune.json.
    """
    if not (folder / MODEL_MARKER).is_file():
        raise RequestRefused(
            f"{folder} holds no {MODEL_MARKER}, so it is no finished base model.",
            code="base_model_incomplete",
            remedy="Make it with python -m training_container.base_model --out FOLDER.",
        )
    uri = base_model_uri(state.models_bucket, name)
    bucket, prefix = split_uri(uri)
    objects = client("s3", state.emulator_url)
    held = _held(objects, bucket, prefix)
    files = sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.name == MODEL_MARKER)
    changed = [path for path in files if not _is_held(path, held.get(path.relative_to(folder).as_posix()))]
    if changed:
        # While files are exchanged, the model is not there.
        objects.delete_object(Bucket=bucket, Key=prefix + MODEL_MARKER)
    for path in dict.fromkeys([*changed, *(files[-1:] if changed else ())]):
        objects.upload_file(str(path), bucket, prefix + path.relative_to(folder).as_posix(), Config=_TRANSFER)
    return uri


def _held(objects: Any, bucket: str, prefix: str) -> Mapping[str, tuple[int, str]]:
    pages = objects.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return {
        entry["Key"].removeprefix(prefix): (entry["Size"], entry["ETag"].strip('"'))
        for page in pages
        for entry in page.get("Contents", ())
    }


def _is_held(path: Path, held: tuple[int, str] | None) -> bool:
    return held is not None and held[0] == path.stat().st_size and held[1] == etag(path)


def etag(path: Path) -> str:
    """S3's ETag of the file as `add_base_model` uploads it: the MD5, or that of the parts' MD5s and their number."""
    parts = []
    with path.open("rb") as file:
        while part := file.read(PART_BYTES):
            parts.append(hashlib.md5(part, usedforsecurity=False))
    if path.stat().st_size < PART_BYTES:
        return parts[0].hexdigest() if parts else hashlib.md5(b"", usedforsecurity=False).hexdigest()
    whole = hashlib.md5(b"".join(part.digest() for part in parts), usedforsecurity=False)
    return f"{whole.hexdigest()}-{len(parts)}"
