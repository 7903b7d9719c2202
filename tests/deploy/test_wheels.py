"""Packages for another machine's bundle, fetched by the real pip from the index that this machine is set to."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import stat
import sys
import zipfile
from itertools import product
from pathlib import Path

import pytest

from spotune.contracts.errors import Unavailable
from spotune.deploy import bundle, wheels
from spotune.deploy.bundle import DISTRIBUTIONS, BundleSources

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
PINS = dict(re.findall(r"^([a-z0-9-]+)==(\S+) ", wheels.LOCK.read_text(), re.MULTILINE))
SIX = "six==1.17.0 --hash=sha256:{}\n"


@pytest.fixture(scope="module")
def cache(pytestconfig: pytest.Config) -> Path:
    """Later sessions find the wheels fetched."""
    return pytestconfig.cache.mkdir("bundles")


def lock(folder: Path, digest: str) -> Path:
    file = folder / "lock.txt"
    file.write_text(SIX.format(digest))
    return file


def test_the_lock_holds_what_a_bundle_carries_at_the_versions_that_are_tested_here() -> None:
    assert {name: importlib.metadata.version(name) for name in DISTRIBUTIONS} == PINS


def test_the_bundle_for_a_foreign_processor_and_python_holds_extensions_for_nothing_else(cache: Path) -> None:
    packages = wheels.packages_for(cache, "3.13", "arm64")
    made = bundle.build(cache, BundleSources.installed(packages))
    with zipfile.ZipFile(made) as archive:
        names = archive.namelist()
    extensions = [name for name in names if name.endswith(".so")]
    assert len(extensions) >= 4
    foreign = [n for n in extensions if not n.endswith((".cpython-313-aarch64-linux-gnu.so", ".abi3.so"))]
    assert foreign == []
    tags = [line for wheel in packages.folder.glob("*/WHEEL") for line in wheel.read_text().splitlines()]  # type: ignore[union-attr]
    assert not [tag for tag in tags if tag.startswith("Tag:") and "x86_64" in tag]
    assert "handlers/api.py" in names
    assert not [name for name in names if ".dist-info/" in name]


def test_the_bundle_of_locked_wheels_runs_on_its_python(cache: Path) -> None:
    packages = wheels.packages_for(cache, HERE, "x86_64")
    made = bundle.build(cache, BundleSources.installed(packages))
    assert packages.compiler == sys.executable
    handlers = [f"handlers.{path.stem}" for path in BundleSources.installed().handlers.glob("[a-z]*.py")]
    assert bundle.check_imports(made, *handlers, "boto3", "tokenizers", "yaml", "spotune.store.dynamo") == ""


def test_packages_that_are_there_need_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = lock(tmp_path, re.search(r"six==1\.17\.0 \\\n\s+--hash=sha256:(\w+)", wheels.LOCK.read_text())[1])  # type: ignore[index]
    first = wheels.packages_for(tmp_path / "cache", HERE, "x86_64", genuine)
    monkeypatch.setattr(wheels, "_run", lambda command: pytest.fail(f"fetched again: {command}"))
    assert wheels.packages_for(tmp_path / "cache", HERE, "x86_64", genuine) == first
    assert first.find("six").version == "1.17.0"


def test_a_wheel_that_is_not_the_locked_one_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="DO NOT MATCH THE HASHES") as refusal:
        wheels.packages_for(tmp_path / "cache", HERE, "x86_64", lock(tmp_path, "0" * 64))
    assert refusal.value.code == "packages_not_fetched"
    assert list((tmp_path / "cache").iterdir()) == []


def test_without_pip_uv_is_asked_and_without_both_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "find_pip", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="ensurepip") as refusal:
        wheels.packages_for(tmp_path / "cache", "3.13", "arm64")
    assert refusal.value.code == "installer_missing"
    uv = tmp_path / "uv"
    uv.write_text(f'#!{shutil.which("sh", path="/bin:/usr/bin")}\necho "$@" >&2; exit 7\n')
    uv.chmod(uv.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(Unavailable, match=r"--require-hashes .*--python-platform aarch64-manylinux_2_28"):
        wheels.packages_for(tmp_path / "cache", "3.13", "arm64")


def test_a_python_on_the_path_that_is_another_one_compiles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = next(python for python in wheels.PYTHONS if python != HERE)
    (tmp_path / f"python{other}").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert wheels.compiler_of(other) is None
    assert wheels.compiler_of(HERE) == sys.executable


@pytest.mark.parametrize(("python", "architecture"), [*product(wheels.PYTHONS, wheels.PROCESSORS)])
def test_no_wheel_needs_a_newer_glibc_than_lambda_has(python: str, architecture: str) -> None:
    newest = wheels.platforms(python, architecture)[0]
    assert newest.startswith("manylinux_2_26_" if python == "3.11" else "manylinux_2_34_")
    assert newest.endswith(wheels.PROCESSORS[architecture])
