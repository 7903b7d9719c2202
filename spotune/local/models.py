"""Puts a base model of this machine into the stack's models bucket, once."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import ValidationError

from spotune.contracts.base_model import BaseModelManifest
from spotune.contracts.errors import RequestRefused
from spotune.contracts.layout import MODEL_MARKER, base_model_folder_uri
from spotune.contracts.training import ManifestFile
from spotune.local.deployment import client
from spotune.local.state import StackState
from spotune.mirror.bucket import ModelsBucket


def add_base_model(state: StackState, folder: Path, name: str) -> str:
    """Upload a base model's folder as `spotune models add` lays down one from the hub, and put it in force.

    Files that lie there already with the same bytes are left alone; a second call costs a look at each file. Other
    bytes are another revision beside it.

    Args:
        state: the stack.
        folder: holds config.json, tokenizer files, *.safetensors and spotune.json.
        name: the model's name in requests, such as `HuggingFaceTB/SmolLM2-135M-Instruct`.

    Returns:
        The folder of its files in S3.

    Raises:
        RequestRefused: the folder has no spotune.json.
    """
    made = _read_marker(folder)
    files = tuple(_hashed(path) for path in sorted(folder.iterdir()) if path.is_file() and path.name != MODEL_MARKER)
    hashed = made.with_(name=name, files=files)
    manifest = hashed.with_(folder=f"{hashed.sha256[:40]}/")
    bucket = ModelsBucket(client("s3", state.emulator_url), state.models_bucket)
    for file in files:
        if not bucket.holds(name, manifest.folder, file):
            bucket.put(folder / file.name, name, manifest.folder, file)
    if bucket.manifest(name) != manifest:
        bucket.mark(manifest)
    return base_model_folder_uri(state.models_bucket, name, manifest.folder)


def _read_marker(folder: Path) -> BaseModelManifest:
    try:
        return BaseModelManifest.model_validate_json((folder / MODEL_MARKER).read_bytes())
    except (FileNotFoundError, ValidationError):
        raise RequestRefused(
            f"{folder} holds no {MODEL_MARKER}, so it is no finished base model.",
            code="base_model_incomplete",
            remedy="Make it with python -m training_container.base_model --out FOLDER.",
        ) from None


def _hashed(path: Path) -> ManifestFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ManifestFile(name=path.name, bytes=path.stat().st_size, sha256=digest)
