"""The base model's files against the manifest that the job was pinned to."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spotune.contracts.base_model import BaseModelManifest
from spotune.contracts.training import ManifestFile
from training_container.faults import TrainingFault
from training_container.model_files import check_model

REPOSITORY = Path(__file__).parents[2]
FILES = {"config.json": b"{}", "model-1.safetensors": bytes(70_000), "model-2.safetensors": b"weights", "LICENSE": b""}


def hashed(files: dict[str, bytes]) -> tuple[ManifestFile, ...]:
    return tuple(
        ManifestFile(name=name, bytes=len(body), sha256=hashlib.sha256(body).hexdigest())
        for name, body in files.items()
    )


@pytest.fixture
def manifest() -> BaseModelManifest:
    return BaseModelManifest(name="org/model", revision="1", parameters=1, files=hashed(FILES))


@pytest.fixture
def folder(tmp_path: Path, manifest: BaseModelManifest) -> Path:
    for name, body in FILES.items():
        (tmp_path / name).write_bytes(body)
    (tmp_path / "spotune.json").write_text(manifest.model_dump_json())
    return tmp_path


def refusal(folder: Path, wanted: str) -> TrainingFault:
    with pytest.raises(TrainingFault) as refused:
        check_model(folder, wanted)
    assert refused.value.code == "model_differs"
    return refused.value


def test_the_files_that_were_pinned_are_taken(folder: Path, manifest: BaseModelManifest) -> None:
    check_model(folder, manifest.sha256)


def test_the_hash_depends_on_files_alone_and_on_no_order(manifest: BaseModelManifest) -> None:
    assert manifest.with_(files=manifest.files[::-1], added_by="another", added_at=9).sha256 == manifest.sha256
    for number, file in enumerate(manifest.files):
        for change in ({"name": "other"}, {"bytes": 8}, {"sha256": "0" * 64}):
            changed = [*manifest.files[:number], file.with_(**change), *manifest.files[number + 1 :]]
            assert manifest.with_(files=tuple(changed)).sha256 != manifest.sha256


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "one bit": (lambda folder: (folder / "model-2.safetensors").write_bytes(b"weighty"), "has the sha256"),
    "a bit in the middle of much": (
        lambda folder: (folder / "model-1.safetensors").write_bytes(bytes(40_000) + b"\1" + bytes(29_999)),
        "has the sha256",
    ),
    "cut off": (lambda folder: os.truncate(folder / "model-1.safetensors", 69_999), "69999 bytes instead of 70000"),
    "one is missing": (lambda folder: (folder / "LICENSE").unlink(), "LICENSE is missing"),
    "weights that would be preferred": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"others"),
        "model.safetensors is not one of them",
    ),
    "code": (lambda folder: (folder / "modeling.py").write_bytes(b"import os"), "modeling.py is not one of them"),
    "no manifest": (lambda folder: (folder / "spotune.json").unlink(), "there is no spotune.json"),
    "a broken manifest": (lambda folder: (folder / "spotune.json").write_text("{"), "cannot be read"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_was_changed_is_never_loaded(folder: Path, manifest: BaseModelManifest, change: str) -> None:
    act, evidence = CHANGES[change]
    act(folder)
    assert evidence in refusal(folder, manifest.sha256).evidence


def test_a_manifest_that_was_changed_with_its_files_is_not_what_the_job_was_pinned_to(
    folder: Path, manifest: BaseModelManifest
) -> None:
    (folder / "model-2.safetensors").write_bytes(b"weighty")
    changed = manifest.with_(files=hashed(FILES | {"model-2.safetensors": b"weighty"}))
    (folder / "spotune.json").write_text(changed.model_dump_json())
    assert manifest.sha256 in refusal(folder, manifest.sha256).evidence


def test_a_model_that_nobody_has_hashed_is_taken_as_it_is(folder: Path) -> None:
    (folder / "spotune.json").write_text('{"name": "org/model", "parameters": 1}')
    check_model(folder, "")


def test_folders_within_are_other_models_revisions(folder: Path, manifest: BaseModelManifest) -> None:
    (folder / ("0" * 40)).mkdir()
    (folder / ("0" * 40) / "model.safetensors").write_bytes(b"others")
    check_model(folder, manifest.sha256)


@pytest.mark.torch
def test_a_job_with_other_files_ends_typed_before_its_model_is_read(root: Callable[..., Path]) -> None:
    made = root(model_sha256="0" * 64)
    environment = {**os.environ, "SPOTUNE_ML_ROOT": str(made), "PYTHONPATH": str(REPOSITORY)}
    ended = subprocess.run([sys.executable, "-m", "training_container"], env=environment, capture_output=True)
    assert ended.returncode == 2
    failure = json.loads((made / "output" / "failure").read_text())
    assert failure["code"] == "model_differs"
    assert not (made / "checkpoints" / "progress.json").exists()
