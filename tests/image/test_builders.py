"""Every builder that this machine has is told what it understands, and tells what is read from it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from spotune.cli.image import instruction
from spotune.contracts.errors import Unavailable
from spotune.deploy.image import builders, context
from spotune.deploy.image.builders import Builder, BuilderName, build, find_builder
from spotune.deploy.image.context import ImageSpec
from spotune.deploy.image.registry import push
from tests.image.registry import running

pytestmark = pytest.mark.image

DOCKERFILE = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nARG ACCELERATOR\nCOPY system /opt/\nCOPY code /opt/spotune\n"


def here() -> Iterator[BuilderName]:
    for name in get_args(BuilderName):
        try:
            yield find_builder(name).name
        except Unavailable:
            continue


@pytest.fixture(params=list(here()))
def any_builder(request: pytest.FixtureRequest) -> Builder:
    return find_builder(request.param)


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image of two small files in two layers, the code last; this is the code's."""
    files = {"Dockerfile": DOCKERFILE, "system": "system\n", "code/trainer.py": f"made = {os.getpid()}\n"}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(context, "image_files", lambda: {name: tmp_path / name for name in files})
    monkeypatch.setattr(builders, "read_settings", dict)
    return tmp_path / "code" / "trainer.py"


def test_a_builder_sends_the_layer_that_has_changed_and_no_other(any_builder: Builder, code: Path) -> None:
    spec = ImageSpec("cpu", base="scratch")
    built = [build(any_builder, spec)]
    code.write_text("made = 'anew'\n")
    assert not any_builder.has(builders.local_reference(spec))
    built.append(build(any_builder, spec))
    try:
        with running() as registry:
            for reference in built:
                assert any_builder.has(reference)
                made_by = [instruction(layer) for layer in any_builder.layers(reference)]
                assert len(made_by) == 2
                assert all(one.startswith("COPY") for one in made_by)
                line = [any_builder.executable, "inspect", "--type", "image", reference]
                inspected = subprocess.run(line, capture_output=True, text=True, check=True).stdout
                assert '"org.opencontainers.image.base.name": "scratch"' in inspected
                assert push(any_builder, reference, registry, secure=False).sent  # type: ignore[arg-type]
            layers_and_descriptions = len(registry.blobs)
            kinds = {kind for _, kind in registry.manifests.values()}
        assert layers_and_descriptions == 3 + 2
        assert (len(registry.manifests), kinds) == (2, {"application/vnd.docker.distribution.manifest.v2+json"})
    finally:
        subprocess.run([any_builder.executable, "rmi", *built], capture_output=True, check=False)
