"""This machine's pip settings, for the pip inside of a build: mounted while it runs, in no layer and no history."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from spotune.deploy.wheels import find_pip

SECRET, CERTIFICATES = "pip", "pip-cert"
"""Names of the mounted files, as the Dockerfile has them."""
INSIDE = {"cert": "/run/secrets/pip-cert.pem"}
"""Where a file of this machine stands inside of the build."""
PLACES = ("index-url", "extra-index-url", "find-links")
"""Settings that name where packages are, several in one value."""
PASSED_ON = (*PLACES, "trusted-host", "cert", "proxy", "default-timeout", "timeout", "retries")

_FILE = "file://"


@dataclass(frozen=True, slots=True)
class Mounts:
    """What a build gets of this machine.

    Attributes:
        secrets: files by the Dockerfile's names for them.
        folders: of packages, with their places inside.
    """

    secrets: Mapping[str, Path]
    folders: Mapping[Path, str]


def read_settings() -> dict[str, str]:
    """What pip is told here, by its files and variables; nothing where there is no pip: it then takes PyPI."""
    pip = find_pip()
    if pip is None:
        return {}
    run = subprocess.run([*pip, "config", "list"], capture_output=True, text=True, check=False)
    return parse(run.stdout) if run.returncode == 0 else {}


def parse(listing: str) -> dict[str, str]:
    """The settings in what `pip config list` prints: variables beat the section `install`, that beats `global`."""
    order = ("global", "install", ":env:")
    found: dict[str, tuple[int, str]] = {}
    for line in listing.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if section not in order or name not in PASSED_ON:
            continue
        rank = order.index(section)
        if name not in found or rank >= found[name][0]:
            found[name] = (rank, str(ast.literal_eval(value)))
    return {name: value for name, (_, value) in found.items()}


def prepare(settings: Mapping[str, str], folder: Path) -> Mounts:
    """Write the file for the build into `folder`, and say what else has to be mounted.

    Args:
        settings: as `read_settings` gives them.
        folder: one that only this user can read: an index's address may hold a password.
    """
    folders: dict[Path, str] = {}

    def inside(path: Path) -> str:
        return folders.setdefault(path, f"/run/packages/{len(folders)}")

    lines = ["[global]"]
    secrets = {SECRET: folder / "pip.conf"}
    for name, value in sorted(settings.items()):
        if name in PLACES:
            value = " ".join(_moved(place, inside) for place in value.split())
        elif name in INSIDE and Path(value).is_file():
            secrets[CERTIFICATES], value = Path(value), INSIDE[name]
        lines.append(f"{name} = {value}")
    secrets[SECRET].write_text("\n".join(lines) + "\n")
    return Mounts(secrets, folders)


def _moved(place: str, inside: Callable[[Path], str]) -> str:
    """An address as the build sees it. An index in a folder points at files beside it, so the folder around it goes."""
    if place.startswith(_FILE):
        path = Path(place.removeprefix(_FILE))
        return f"{_FILE}{inside(path.parent)}/{path.name}"
    return inside(Path(place)) if Path(place).is_dir() else place
