"""Base models of this machine on their way into the stack."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from spotune.contracts.base_model import BaseModelManifest
from spotune.contracts.errors import RequestRefused
from spotune.contracts.layout import base_model_uri, split_uri
from spotune.local.deployment import client
from spotune.local.models import add_base_model
from spotune.local.state import StackState
from spotune.mirror.bucket import PART_BYTES, ModelsBucket
from spotune.mirror.keeping import faults

pytestmark = pytest.mark.embedded


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "spotune.json").write_text('{"name": "org/model", "revision": "7", "parameters": 5}')
    (tmp_path / "model.safetensors").write_bytes(bytes(PART_BYTES + 5))
    return tmp_path


def bucket(state: StackState) -> ModelsBucket:
    return ModelsBucket(client("s3", state.emulator_url), state.models_bucket)


def in_force(state: StackState, name: str) -> BaseModelManifest:
    found = bucket(state).manifest(name)
    assert found is not None
    return found


def versions(state: StackState, name: str) -> list[str]:
    place, prefix = split_uri(base_model_uri(state.models_bucket, name))
    listed = client("s3", state.emulator_url).list_object_versions(Bucket=place, Prefix=prefix)
    return [version["VersionId"] for version in listed.get("Versions", ())]


def test_every_file_arrives_and_is_hashed(stack: StackState, folder: Path) -> None:
    uri = add_base_model(stack, folder, "models/one")
    manifest = in_force(stack, "models/one")
    assert uri == f"{base_model_uri(stack.models_bucket, 'models/one')}{manifest.folder}"
    assert (manifest.name, manifest.revision, manifest.parameters) == ("models/one", "7", 5)
    assert {file.name: file.sha256 for file in manifest.files} == {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("config.json", "model.safetensors")
    }
    assert list(faults(bucket(stack), manifest, lambda count: None)) == []


def test_a_second_time_uploads_nothing(stack: StackState, folder: Path) -> None:
    add_base_model(stack, folder, "models/two")
    before = versions(stack, "models/two")
    add_base_model(stack, folder, "models/two")
    assert versions(stack, "models/two") == before


def test_a_changed_folder_is_another_revision_and_takes_nothing_from_the_first(stack: StackState, folder: Path) -> None:
    add_base_model(stack, folder, "models/three")
    first = in_force(stack, "models/three")
    (folder / "config.json").write_text('{"changed": true}')
    add_base_model(stack, folder, "models/three")
    assert in_force(stack, "models/three").sha256 != first.sha256
    assert list(faults(bucket(stack), first, lambda count: None)) == []


def test_half_a_model_is_refused_before_anything_is_uploaded(stack: StackState, folder: Path) -> None:
    (folder / "spotune.json").unlink()
    with pytest.raises(RequestRefused, match="no finished base model") as refusal:
        add_base_model(stack, folder, "models/four")
    assert refusal.value.code == "base_model_incomplete"
    assert versions(stack, "models/four") == []
