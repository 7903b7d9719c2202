"""That the base model's files are those that the job was submitted with, byte for byte."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from spotune.contracts.base_model import BaseModelManifest
from spotune.contracts.layout import MODEL_MARKER
from spotune.contracts.training import ManifestFile
from training_container.faults import TrainingFault

THREADS = 8
"""At most. Hashing leaves Python's lock alone, and a fast disk feeds several."""


def check_model(folder: Path, wanted: str) -> None:
    """Hash every file of the `model` channel. What was changed, added or left out since is never loaded.

    Files that nobody has ever hashed are taken as they are.

    Args:
        wanted: the hash that the job was pinned to; empty where its model has none.

    Raises:
        TrainingFault: the files are others.
    """
    if not wanted:
        return
    manifest = _read_manifest(folder)
    if manifest.sha256 != wanted:
        raise _differs(f"the manifest stands for {manifest.sha256 or 'no files'}, the job for {wanted}")
    for fault in _faults(folder, manifest):
        raise _differs(fault)


def _read_manifest(folder: Path) -> BaseModelManifest:
    try:
        return BaseModelManifest.model_validate_json((folder / MODEL_MARKER).read_bytes())
    except FileNotFoundError:
        raise _differs(f"there is no {MODEL_MARKER}") from None
    except ValidationError as error:
        raise _differs(f"{MODEL_MARKER} cannot be read: {error.errors(include_url=False)[0]['msg']}") from error


def _faults(folder: Path, manifest: BaseModelManifest) -> Iterator[str]:
    """A file that is too many counts: transformers would prefer a whole model.safetensors to the shards beside it."""
    known = {MODEL_MARKER, *(file.name for file in manifest.files)}
    yield from (f"{path.name} is not one of them" for path in sorted(folder.iterdir()) if _is_stranger(path, known))
    pool = ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1))
    try:
        yield from filter(None, pool.map(partial(_fault, folder), manifest.files))
    finally:
        pool.shutdown(cancel_futures=True)


def _is_stranger(path: Path, known: set[str]) -> bool:
    return path.is_file() and path.name not in known


def _fault(folder: Path, file: ManifestFile) -> str:
    """What is wrong with one file; empty where it is the one."""
    try:
        with (folder / file.name).open("rb") as stream:
            if (size := os.fstat(stream.fileno()).st_size) != file.bytes:
                return f"{file.name} has {size} bytes instead of {file.bytes}"
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        return f"{file.name} is missing"
    return "" if found == file.sha256 else f"{file.name} has the sha256 {found} instead of {file.sha256}"


def _differs(evidence: str) -> TrainingFault:
    return TrainingFault(
        "model_differs",
        "The base model's files are not those that the job was submitted with.",
        evidence=evidence,
        remedy="Find out who changed the models bucket; restore the files' older versions, or add the model again with "
        "`spotune models add` and submit anew.",
    )
