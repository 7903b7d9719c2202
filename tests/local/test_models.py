"""Base models on their way into the stack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from spotune.contracts.errors import RequestRefused
from spotune.contracts.layout import base_model_uri, split_uri
from spotune.local.deployment import client
from spotune.local.models import PART_BYTES, add_base_model, etag
from spotune.local.state import StackState

pytestmark = pytest.mark.embedded


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "spotune.json").write_text('{"name": "org/model"}')
    (tmp_path / "model.safetensors").write_bytes(bytes(PART_BYTES + 5))
    return tmp_path


def written(state: StackState, name: str) -> dict[str, Any]:
    """What lies in the model's folder: the time and the ETag by file name."""
    bucket, prefix = split_uri(base_model_uri(state.models_bucket, name))
    listed = client("s3", state.emulator_url).list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", ())
    return {entry["Key"].removeprefix(prefix): (entry["LastModified"], entry["ETag"].strip('"')) for entry in listed}


def versions(state: StackState, name: str) -> list[str]:
    bucket, prefix = split_uri(base_model_uri(state.models_bucket, name))
    listed = client("s3", state.emulator_url).list_object_versions(Bucket=bucket, Prefix=prefix)
    return [version["VersionId"] for version in listed["Versions"]]


def test_every_file_arrives_with_the_etag_that_is_reckoned_here(stack: StackState, folder: Path) -> None:
    assert add_base_model(stack, folder, "models/one") == base_model_uri(stack.models_bucket, "models/one")
    assert {name: tag for name, (_, tag) in written(stack, "models/one").items()} == {
        path.name: etag(path) for path in folder.iterdir()
    }


def test_a_second_time_uploads_nothing(stack: StackState, folder: Path) -> None:
    add_base_model(stack, folder, "models/two")
    before = versions(stack, "models/two")
    add_base_model(stack, folder, "models/two")
    assert versions(stack, "models/two") == before


def test_a_changed_file_is_exchanged_and_the_marker_written_after_it(stack: StackState, folder: Path) -> None:
    add_base_model(stack, folder, "models/three")
    before = written(stack, "models/three")
    (folder / "config.json").write_text('{"changed": true}')
    add_base_model(stack, folder, "models/three")
    after = written(stack, "models/three")
    assert after["config.json"] != before["config.json"]
    assert after["spotune.json"][0] >= after["config.json"][0]
    assert after["model.safetensors"] == before["model.safetensors"]


def test_half_a_model_is_refused_before_anything_is_uploaded(stack: StackState, folder: Path) -> None:
    (folder / "spotune.json").unlink()
    with pytest.raises(RequestRefused, match="no finished base model") as refusal:
        add_base_model(stack, folder, "models/four")
    assert refusal.value.code == "base_model_incomplete"
    assert written(stack, "models/four") == {}
