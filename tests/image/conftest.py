from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from spotune.deploy.image.builders import Builder, build, find_builder
from spotune.deploy.image.context import ImageSpec
from tests.image.machine import Entered, entered, make_base
from tests.training_container.building import save_model

STORAGE = Path(__file__).parents[2] / "build" / "image"
"""Kept between sessions, so that what has not changed is not built again; `rm -r build/image` takes it away."""
CANARY = "canary.example"
"""A setting of this machine's pip that must not be found in the image."""


@pytest.fixture(scope="session", autouse=True)
def _storage() -> Iterator[None]:
    """buildah with a store of its own: overlay, or vfs, which copies each layer whole, where the kernel has none."""
    missing = [program for program in ("buildah", "unshare", "chroot") if shutil.which(program) is None]
    assert not missing, f"the image's tests need {missing}: apt-get install buildah util-linux coreutils"
    assert os.geteuid() == 0, "the image's tests need root: they mount the image's file system and enter it"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTAINERS_STORAGE_CONF", str(STORAGE / "storage.conf"))
        patch.setenv("BUILDAH_ISOLATION", "chroot")
        patch.setenv("PIP_TRUSTED_HOST", CANARY)
        for driver in ("overlay", "vfs"):
            store = STORAGE / driver
            store.mkdir(parents=True, exist_ok=True)
            settings = f'[storage]\ndriver = "{driver}"\ngraphroot = "{store}/store"\nrunroot = "{store}/run"\n'
            (STORAGE / "storage.conf").write_text(settings)
            if subprocess.run(["buildah", "images"], capture_output=True, check=False).returncode == 0:
                break
        yield
    subprocess.run(
        ["umount", "--lazy", str(STORAGE / "overlay" / "store" / "overlay")], stderr=subprocess.DEVNULL, check=False
    )


@pytest.fixture(scope="session")
def builder(_storage: None) -> Builder:
    return find_builder("buildah")


@pytest.fixture(scope="session")
def spec(_storage: None) -> ImageSpec:
    return ImageSpec("cpu", base=make_base(STORAGE))


@pytest.fixture(scope="session")
def reference(builder: Builder, spec: ImageSpec) -> str:
    """The built image."""
    return build(builder, spec)


@pytest.fixture(scope="session")
def container(reference: str) -> Iterator[Entered]:
    with entered(reference) as found:
        yield found


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "llama")
