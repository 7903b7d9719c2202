"""Writes infra/lambda.txt: what Lambda functions import, at the versions installed here, with the hashes of all wheels
that run on Lambda. Needs pip and its index; part of `make lock`.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

from spotune.deploy.bundle import DISTRIBUTIONS
from spotune.deploy.wheels import LOCK, PROCESSORS, PYTHONS, platforms

HEAD = "# What Lambda functions import, with the hashes of the wheels for each Python there. Made by `make lock`.\n"


def main() -> None:
    """Write the file."""
    pins = {name: f"{name}=={importlib.metadata.version(name)}" for name in DISTRIBUTIONS}
    hashes: dict[str, set[str]] = {name: set() for name in pins}
    for python, architecture in product(PYTHONS, PROCESSORS):
        with tempfile.TemporaryDirectory() as folder:
            fetch(Path(folder), python, architecture, list(pins.values()))
            for wheel in Path(folder).glob("*.whl"):
                name = wheel.name.split("-")[0].lower().replace("_", "-")
                hashes[name].add(hashlib.sha256(wheel.read_bytes()).hexdigest())
    lines = [" \\\n    ".join([pins[name], *(f"--hash=sha256:{one}" for one in sorted(hashes[name]))]) for name in pins]
    LOCK.write_text(HEAD + "\n".join(lines) + "\n")


def fetch(folder: Path, python: str, architecture: str, pins: list[str]) -> None:
    """Download the wheels of one Python and processor."""
    named = [word for tag in platforms(python, architecture) for word in ("--platform", tag)]
    pip = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        str(folder),
    ]
    subprocess.run([*pip, "--implementation", "cp", "--python-version", python, *named, *pins], check=True)


if __name__ == "__main__":
    main()
