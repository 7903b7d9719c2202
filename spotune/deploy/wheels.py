"""The distributions of a bundle for another machine: the locked wheels for Lambda's Python and processor.

infra/lambda.txt names each version and the hashes of its wheels, so that what runs in Lambda is the same whoever
deploys, and no index can slip in anything else. pip or uv fetches them, from whatever index this machine is set to.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import infra
from spotune.contracts.errors import Unavailable
from spotune.deploy.bundle import Packages

LOCK = Path(infra.__file__).with_name("lambda.txt")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PROCESSORS = {"x86_64": "x86_64", "arm64": "aarch64"}
"""Lambda's words for processors, and the wheels'."""

_GLIBC = {"3.11": 26}
"""Amazon Linux 2 has glibc 2.26; every later Python of Lambda's runs on Amazon Linux 2023."""
_GLIBC_2023 = 34
_OLDEST_GLIBC = 17
_PIP_SETTINGS = {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def packages_for(cache: Path, python: str, architecture: str, lock: Path = LOCK) -> Packages:
    """The locked distributions for Lambda, fetched unless they are in `cache`.

    Args:
        cache: folder of the user's own: what lies there is not verified again.
        python: Lambda's, as `3.13`.
        architecture: `x86_64` or `arm64`.

    Raises:
        Unavailable: there is neither pip nor uv, or a wheel could not be fetched or is not the locked one.
    """
    folder = _folder(cache, python, architecture, lock)
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="wheels-") as unfinished:
            target = Path(unfinished, "packages")
            _run([*_installer(python, architecture), "--target", str(target), "--requirement", str(lock)])
            _move(target, folder)
    return Packages(f"{python} {architecture}", folder, compiler_of(python))


def packages_at_hand(cache: Path, python: str, architecture: str) -> Packages | None:
    """The same without fetching anything; None where they were not fetched yet."""
    folder = _folder(cache, python, architecture, LOCK)
    return Packages(f"{python} {architecture}", folder, compiler_of(python)) if folder.exists() else None


def platforms(python: str, architecture: str) -> list[str]:
    """Tags of wheels that run on Lambda, newest first."""
    processor, newest = PROCESSORS[architecture], _GLIBC.get(python, _GLIBC_2023)
    tags = [f"manylinux_2_{minor}_{processor}" for minor in range(newest, _OLDEST_GLIBC - 1, -1)]
    return [*tags, f"manylinux2014_{processor}"]


def compiler_of(python: str) -> str | None:
    """A Python of this version on this machine; bytecode is the same for every processor."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if python == here:
        return sys.executable
    found = shutil.which(f"python{python}")
    if found is None:
        return None
    # A name on the path may lead to a version manager that has no such version.
    says = [found, "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"]
    run = subprocess.run(says, capture_output=True, text=True, check=False)
    version, _, executable = run.stdout.strip().partition(" ")
    return executable if run.returncode == 0 and version == python else None


def _folder(cache: Path, python: str, architecture: str, lock: Path) -> Path:
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    return cache / f"wheels-{digest}-{python}-{architecture}"


def _installer(python: str, architecture: str) -> list[str]:
    alike = ["--no-deps", "--require-hashes", "--python-version", python, "--quiet"]
    pip = find_pip()
    if pip is not None:
        named = [word for tag in platforms(python, architecture) for word in ("--platform", tag)]
        return [*pip, "install", *alike, "--no-compile", "--only-binary=:all:", "--implementation", "cp", *named]
    uv = shutil.which("uv")
    if uv is not None:
        minor = min(_GLIBC.get(python, _GLIBC_2023), 28)
        tag = (
            f"{PROCESSORS[architecture]}-manylinux_2_{minor}"
            if minor >= 28
            else f"{PROCESSORS[architecture]}-manylinux2014"
        )
        return [uv, "pip", "install", *alike, "--only-binary", ":all:", "--python-platform", tag]
    raise Unavailable(
        f"There is neither pip in {sys.prefix} nor uv to fetch the bundle's packages with.",
        code="installer_missing",
        remedy="Install one of them: python -m ensurepip",
    )


def find_pip() -> list[str] | None:
    """The beginning of a command that runs this machine's pip; None where there is none."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    found = shutil.which("pip3") or shutil.which("pip")
    return None if found is None else [found]


def _run(command: list[str]) -> None:
    run = subprocess.run(command, env=os.environ | _PIP_SETTINGS, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        said = " ".join(" ".join(line for line in run.stderr.splitlines() if not line.startswith("WARNING")).split())
        raise Unavailable(
            f"The bundle's packages could not be fetched: {said[:600] or f'exit code {run.returncode}'}",
            code="packages_not_fetched",
            remedy="See that this machine's pip reaches its index. infra/lambda.txt names the wheels and their hashes.",
        )


def _move(target: Path, folder: Path) -> None:
    """In one step, so that a folder of this name is whole. Whoever was faster has made the same one."""
    try:
        target.rename(folder)
    except OSError:
        if not folder.exists():
            raise
