"""What the image is made of, laid out for a builder: the same files with the same times, whoever lays them out."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import infra
from spotune.contracts.errors import RequestRefused, Unavailable

Accelerator = Literal["cuda", "cpu"]

FILES = Path(infra.__file__).with_name("image")
"""The Dockerfile and what it copies before the code."""
CPU_BASE = "docker.io/library/debian:bookworm-slim"
"""For an image without CUDA; the Dockerfile names the base of one with it."""
ROOMS = ("spotune/contracts", "spotune/data", "spotune/pod", "training_container")
CODE = "code"
"""Folder of the one layer that holds our own files."""

_USUAL_BASE = re.compile(r"^ARG BASE_IMAGE=(\S+)$", re.MULTILINE)
_PINNED_WHEEL = re.compile(r"https://\S+\.whl#sha256=[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """What kind of image is wanted.

    Attributes:
        accelerator: what torch computes on.
        base: image that it stands on; None for the usual one.
        flash_attention: URL of a wheel with its hash, `https://...whl#sha256=...`; None for an image without. It stays
            in the image's history, and so it may hold no credentials.
    """

    accelerator: Accelerator = "cuda"
    base: str | None = None
    flash_attention: str | None = None

    def __post_init__(self) -> None:
        if self.flash_attention is not None and _may_hold_credentials(self.flash_attention):
            raise RequestRefused(
                "The wheel's URL has a user, a password or a query, which would stay in the image's history.",
                code="wheel_with_credentials",
                param="flash_attention",
                remedy="Give the URL without them. pip takes the password of a host from its own settings (an index of "
                "that host, with the password), which are in no layer and in no history.",
            )
        if self.flash_attention is not None and not _PINNED_WHEEL.fullmatch(self.flash_attention):
            raise RequestRefused(
                f"{self.flash_attention} is no wheel with its hash.",
                code="wheel_not_pinned",
                param="flash_attention",
                remedy="Give https://...whl#sha256=<64 hex digits>: nothing comes into the image that is not hashed.",
            )

    @property
    def arguments(self) -> dict[str, str]:
        """The Dockerfile's arguments that differ from what it says itself."""
        base = self.base or (CPU_BASE if self.accelerator == "cpu" else None)
        return {
            "ACCELERATOR": self.accelerator,
            **({"BASE_IMAGE": base} if base else {}),
            **({"FLASH_ATTENTION": self.flash_attention} if self.flash_attention else {}),
        }

    @property
    def base_reference(self) -> str:
        """What it stands on, the Dockerfile's own base included."""
        return self.arguments.get("BASE_IMAGE") or _USUAL_BASE.findall((FILES / "Dockerfile").read_text())[0]

    @property
    def base_digest(self) -> str | None:
        """What pins the base's content; None where the reference is a tag, which can be moved."""
        return self.base_reference.partition("@")[2] or None

    @property
    def labels(self) -> dict[str, str]:
        """What the image says of its base, under the names that OCI gives them."""
        kind = "org.opencontainers.image.base"
        pinned = {f"{kind}.digest": self.base_digest} if self.base_digest else {}
        return {f"{kind}.name": self.base_reference, **pinned}

    @property
    def tag(self) -> str:
        """Version and content: the same files and arguments have the same tag, on every machine."""
        digest = hashlib.sha256(json.dumps(self.arguments, sort_keys=True).encode())
        for name, path in sorted(image_files().items()):
            content = path.read_bytes()
            digest.update(f"\0{name}\0{len(content)}\0".encode())
            digest.update(content)
        version = importlib.metadata.version("spotune").replace("+", "-")
        return f"{version}-{self.accelerator}-{digest.hexdigest()[:12]}"


def _may_hold_credentials(url: str) -> bool:
    """A query is how presigned URLs carry theirs."""
    parts = urlsplit(url)
    return "@" in parts.netloc or bool(parts.query)


def image_files() -> dict[str, Path]:
    """Every file of the context, by its name there.

    Raises:
        Unavailable: this Spotune was installed without a part of it.
    """
    found = {path.name: path for path in FILES.glob("*") if path.is_file() and path.name != "__init__.py"}
    spotune = _folder("spotune")
    for name in ("__init__.py", "py.typed"):
        found[f"{CODE}/spotune/{name}"] = spotune / name
    for room in ROOMS:
        folder = spotune.parent / room if room.startswith("spotune/") else _folder(room)
        for path in _sources(folder):
            found[f"{CODE}/{room}/{path.relative_to(folder).as_posix()}"] = path
    return found


def lay_out(folder: Path) -> None:
    """Write the context into an empty folder. Times and modes are fixed, so that they change no layer."""
    for name, path in image_files().items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        target.chmod(0o644)
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)
        os.utime(path, (0, 0))


def _sources(folder: Path) -> Iterator[Path]:
    """All but bytecode and the lists of packages, which are installed long before."""
    for path in folder.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".txt":
            yield path


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise Unavailable(
            f"The package {package}, which goes into the image, is not installed here.",
            code="package_missing",
            remedy="Install Spotune anew: pip install spotune.",
        )
    return Path(spec.submodule_search_locations[0])
