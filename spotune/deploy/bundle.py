"""The Lambda bundle: our packages, the handlers and what they import.

It holds compiled extensions, so it runs on one Python and one processor; the template has a parameter for each. The
embedded mode makes it of what is installed here, without network. For AWS it is made of the locked wheels for Lambda's
Python and processor (`wheels.py`), whatever machine it is made on. What goes in is decided here for both.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from spotune.contracts.errors import Unavailable

OWN_ROOMS = ("aws", "contracts", "data", "lifecycle", "planner", "retraining", "service", "store")

DISTRIBUTIONS = (
    "annotated-types",
    "aws-lambda-powertools",
    "boto3",
    "botocore",
    "jinja2",
    "jmespath",
    "markupsafe",
    "pydantic",
    "pydantic-core",
    "python-dateutil",
    "pyyaml",
    "s3transfer",
    "six",
    "tokenizers",
    "typing-extensions",
    "typing-inspection",
    "urllib3",
)

LEFT_OUT = {"tokenizers": ("huggingface-hub",)}
"""Requirements of the above that no Lambda reaches: the model hub."""

SERVICE_MODELS = (
    "dynamodb/2012-08-10",
    "ec2/2016-11-15",
    "pricing",
    "s3",
    "sagemaker",
    "secretsmanager",
    "service-quotas",
    "sns",
    "sqs",
    "sts",
)
"""What is kept of botocore's data, which describes more than four hundred services."""

_FORMAT = "2"
_KEPT = 5
_COMPILE = (
    "import compileall, sys, py_compile as p; "
    "sys.exit(not compileall.compile_dir(sys.argv[1], stripdir=sys.argv[1], quiet=1, workers=1, "
    "invalidation_mode=p.PycInvalidationMode.UNCHECKED_HASH))"
)
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Packages:
    """Where the distributions lie that a bundle carries, and what runs them.

    Attributes:
        platform: Python and processor, as far as the bundle depends on them.
        folder: where they are installed; None for wherever this Python finds them.
        compiler: a Python of that version; None where this machine has none, so that Lambda compiles at each start.
    """

    platform: str
    folder: Path | None
    compiler: str | None

    @classmethod
    def installed(cls) -> Packages:
        """What is installed here, for this Python and processor."""
        return cls(f"{platform.python_version()} {platform.machine()}", None, sys.executable)

    def find(self, name: str) -> importlib.metadata.Distribution:
        """A distribution by its name.

        Raises:
            Unavailable: it is not installed.
        """
        path = sys.path if self.folder is None else [str(self.folder)]
        for found in importlib.metadata.distributions(name=name, path=path):
            return found
        raise _missing(name)

    @property
    def words(self) -> list[str]:
        """What tells them from others."""
        versions = [f"{name}=={self.find(name).version}" for name in DISTRIBUTIONS]
        return [self.platform, "compiled" if self.compiler else "not compiled", *versions]


@dataclass(frozen=True)
class BundleSources:
    """What a bundle is made of.

    Attributes:
        handlers: folder of the package `handlers`.
        spotune: folder of the package `spotune`.
        packages: everybody else's.
    """

    handlers: Path
    spotune: Path
    packages: Packages

    @classmethod
    def installed(cls, packages: Packages | None = None) -> BundleSources:
        """The packages that this Python would import, with others' from there, too, unless they are given."""
        return cls(
            handlers=_package_folder("handlers"),
            spotune=_package_folder("spotune"),
            packages=packages or Packages.installed(),
        )

    @cached_property
    def fingerprint(self) -> str:
        """Changes with whatever would change the bundle: our files, versions of the rest, Python, processor."""
        digest = hashlib.sha256()
        digest.update(json.dumps([_FORMAT, *self.packages.words, *SERVICE_MODELS]).encode())
        for name, path in sorted(self._own_files().items()):
            digest.update(f"\0{name}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
        return digest.hexdigest()[:20]

    @property
    def name(self) -> str:
        """Of the bundle's file, and its key in the code bucket."""
        return f"bundle-{self.fingerprint}.zip"

    def files(self) -> dict[str, Path]:
        """Every file of the bundle before compilation, by its name inside."""
        found = self._own_files()
        for name in DISTRIBUTIONS:
            found.update(_distribution_files(self.packages.find(name)))
        return found

    def _own_files(self) -> dict[str, Path]:
        found = {"spotune/__init__.py": self.spotune / "__init__.py"}
        folders = [(f"spotune/{room}", self.spotune / room) for room in OWN_ROOMS] + [("handlers", self.handlers)]
        for prefix, folder in folders:
            for path in _sources(folder):
                found[f"{prefix}/{path.relative_to(folder).as_posix()}"] = path
        return found


def build(cache: Path, sources: BundleSources | None = None) -> Path:
    """The bundle as a zip file in `cache`; made if its contents are new, which takes seconds.

    The same sources give the same bytes.

    Raises:
        Unavailable: a distribution that a Lambda needs is not installed.
    """
    sources = sources or BundleSources.installed()
    path = cache / sources.name
    if path.exists():
        return path
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="bundle-") as folder:
        tree, unfinished = Path(folder, "tree"), Path(folder, "bundle.zip")
        _lay_out(sources.files(), tree)
        # Ready-made bytecode spares every cold start the compiler. It is checked against nothing, since a bundle's
        # files never change, and times do not survive a zip.
        if sources.packages.compiler is not None:
            subprocess.run([sources.packages.compiler, "-I", "-c", _COMPILE, str(tree)], check=True)
        _zip(tree, unfinished)
        unfinished.replace(path)
    _forget_old(cache)
    return path


def check_imports(bundle: Path, *modules: str, python: str = sys.executable) -> str:
    """Import modules out of the bundle alone, with no site-packages at hand.

    Returns an empty string, or what Python said against it.
    """
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(bundle) as archive:
            archive.extractall(folder)
        program = (
            "import importlib, sys; sys.path.insert(0, sys.argv[1]); [*map(importlib.import_module, sys.argv[2:])]"
        )
        run = subprocess.run(
            [python, "-I", "-S", "-c", program, folder, *modules],
            env={"PATH": os.defpath},
            capture_output=True,
            text=True,
            check=False,
        )
    return "" if run.returncode == 0 else run.stderr


def unpacked_bytes(bundle: Path) -> int:
    """The bundle's size on a Lambda's disk."""
    with zipfile.ZipFile(bundle) as archive:
        return sum(entry.file_size for entry in archive.infolist())


def _package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise _missing(name)
    return Path(spec.submodule_search_locations[0])


def _missing(name: str) -> Unavailable:
    return Unavailable(
        f"The Lambda bundle needs the package {name}, which is not installed in {sys.prefix}.",
        code="package_missing",
        remedy="Install Spotune with its dependencies: pip install 'spotune[local]'.",
    )


def _distribution_files(distribution: importlib.metadata.Distribution) -> dict[str, Path]:
    found = {}
    for file in distribution.files or ():
        inside = file.as_posix()
        if not inside.startswith("..") and ".dist-info/" not in inside and _is_wanted(inside):
            found[inside] = Path(str(distribution.locate_file(file)))
    return found


def _is_wanted(inside: str) -> bool:
    if inside.endswith((".pyc", ".pyi", "/py.typed")):
        return False
    service = inside.removeprefix("botocore/data/")
    if service == inside:
        return not inside.startswith(("boto3/data/", "boto3/examples/"))
    if "/" not in service:
        return True
    return service.startswith(SERVICE_MODELS) and not service.endswith("/examples-1.json")


def _sources(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def _lay_out(files: Mapping[str, Path], tree: Path) -> None:
    for name, source in files.items():
        target = tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())


def _zip(tree: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in sorted(path for path in tree.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(tree).as_posix(), _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, path.read_bytes())


def _forget_old(cache: Path) -> None:
    newest_first = sorted(cache.glob("bundle-*.zip"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in newest_first[_KEPT:]:
        old.unlink(missing_ok=True)
