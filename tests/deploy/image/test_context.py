"""What goes into the image: our code and the locked packages, the same for everybody."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from spotune.contracts.errors import RequestRefused
from spotune.deploy.image import context
from spotune.deploy.image.context import CPU_BASE, ImageSpec, image_files, lay_out

WHEEL = f"https://example.org/flash_attn-2.9-cp312-cp312-linux_x86_64.whl#sha256={'0' * 64}"


def laid_out(folder: Path) -> Mapping[str, tuple[bytes, int, float]]:
    """Content, mode and time of each file."""
    folder.mkdir()
    lay_out(folder)
    return {
        path.relative_to(folder).as_posix(): (
            path.read_bytes() if path.is_file() else b"",
            stat.S_IMODE(path.stat().st_mode),
            path.stat().st_mtime,
        )
        for path in folder.rglob("*")
    }


def test_the_context_is_the_same_wherever_and_whenever_it_is_laid_out(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        strict = laid_out(tmp_path / "strict")
    finally:
        os.umask(before)
    assert strict == laid_out(tmp_path / "usual")
    assert {time for _, _, time in strict.values()} == {0}


def test_the_code_is_the_trainers_rooms_and_no_other() -> None:
    code = {name for name in image_files() if name.startswith("code/")}
    rooms = {"/".join(name.split("/")[1:3]) for name in code if name.startswith("code/spotune/")}
    assert rooms == {f"spotune/{name}" for name in ("__init__.py", "py.typed", "contracts", "data", "pod")}
    assert "code/training_container/__main__.py" in code
    assert not {name for name in image_files() if "__pycache__" in name or "test" in Path(name).name}


def test_the_tag_follows_from_the_files_and_the_arguments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tag = ImageSpec().tag
    assert ImageSpec().tag == tag
    others = {ImageSpec("cpu").tag, ImageSpec(base="ubuntu").tag, ImageSpec(flash_attention=WHEEL).tag}
    changed = tmp_path / "health.py"
    changed.write_text("changed")
    files = image_files() | {"code/training_container/health.py": changed}
    monkeypatch.setattr(context, "image_files", lambda: files)
    assert len({tag, ImageSpec().tag, *others}) == 5


def test_a_tag_is_one_that_registries_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context.importlib.metadata, "version", lambda name: "1.0.dev1+local")
    assert ImageSpec().tag.startswith("1.0.dev1-local-cuda-")


def test_an_image_for_cpus_stands_on_a_plain_base_and_one_for_cuda_on_the_dockerfiles() -> None:
    assert ImageSpec("cpu").arguments == {"ACCELERATOR": "cpu", "BASE_IMAGE": CPU_BASE}
    assert CPU_BASE.startswith("docker.io/library/")
    assert ImageSpec().arguments == {"ACCELERATOR": "cuda"}
    assert ImageSpec(base="mine@sha256:1").arguments["BASE_IMAGE"] == "mine@sha256:1"


@pytest.mark.parametrize("url", ["flash-attn", WHEEL.partition("#")[0], f"{WHEEL}0", f"{WHEEL}\nother"])
def test_a_wheel_without_its_hash_is_refused(url: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        ImageSpec(flash_attention=url)
    assert refused.value.code == "wheel_not_pinned"


@pytest.mark.parametrize(
    "url",
    [
        WHEEL.replace("https://", "https://someone:hunter2@"),
        WHEEL.replace("https://", "https://t0ken@"),
        WHEEL.replace(".whl#", ".whl?X-Amz-Signature=hunter2#"),
        WHEEL.replace("https://example.org/", "https://example.org/?key=hunter2&file="),
        WHEEL.partition("#")[0].replace("https://", "https://someone:hunter2@"),
    ],
)
def test_a_wheels_url_with_credentials_is_refused_and_never_repeated(url: str) -> None:
    """Arguments of a build are in the history of its image, for everybody who may pull it."""
    with pytest.raises(RequestRefused) as refused:
        ImageSpec(flash_attention=url)
    assert refused.value.code == "wheel_with_credentials"
    assert not [word for word in ("hunter2", "t0ken") if word in str(refused.value)]
