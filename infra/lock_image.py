"""Writes infra/image/*.txt: each package of the training image with its version and its files' SHA-256.

    python -m infra.lock_image        what training_container/requirements.txt and constraints.txt allow, by pip

Run by `make lock`, after constraints.txt was written anew: the versions are those that the tests run with. A wheel is
locked for each Python that bases bring. torch's CPU build is PyTorch's own and lies on an index of its own: it is
locked for the Python that runs this.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LOCKED = ROOT / "infra" / "image"
PYTHONS = ("3.11", "3.12")
"""Of Debian 12 and of Ubuntu 24.04, on which NVIDIA's images stand."""
PLATFORMS = (
    *(f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)),
    "manylinux2014_x86_64",
    "manylinux2010_x86_64",
    "manylinux1_x86_64",
)
FROM_SOURCE = ("deepspeed",)
"""Published without a wheel: the source's hash is locked, and the image builds it."""
RUNTIME = ("nvidia-", "cuda-")
"""How the names of CUDA's own libraries begin; they change when torch's CUDA does."""
ON_TORCH = frozenset({"torch", "triton", "liger-kernel"})
HEAD = "# Made by `make lock` (infra/lock_image.py). What {use}.\n"

Locked = dict[str, tuple[str, set[str]]]
"""Version and hashes by name."""


def main() -> None:
    """Resolve for each accelerator and Python, and write the lists."""
    torch = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))
    version = torch.partition("==")[2]
    named = _lines(ROOT / "training_container" / "requirements.txt")
    on_cuda = _lines(ROOT / "training_container" / "requirements-cuda.txt")
    sources = [line for line in named if line.startswith(FROM_SOURCE)]
    built, their_needs = _sources(sources)
    needed = [line for line in named if line not in sources] + their_needs
    # `===` keeps pip from a CPU build where it finds one, too: a version with a label counts as the newer one.
    cuda = _resolved([*needed, *on_cuda, f"torch==={version}"], PYTHONS)
    cpu = _resolved([f"torch==={version}+cpu"], (f"{sys.version_info.major}.{sys.version_info.minor}",))
    runtime = {name: found for name, found in cuda.items() if name.startswith(RUNTIME)}
    libraries = {name: found for name, found in cuda.items() if name not in runtime and name not in ON_TORCH}
    _write("cuda-runtime", runtime, "torch's CUDA build computes with")
    _write("cuda-torch", {name: found for name, found in cuda.items() if name in ON_TORCH}, "computes on GPUs")
    _write("cpu-runtime", {}, "torch's CPU build needs beside itself: nothing")
    _write("cpu-torch", {"torch": cpu["torch"]}, "computes on CPUs")
    _write("libraries", libraries, "every image has")
    _write("sources", built, "every image has and builds itself, since there are no wheels")


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line and not line.startswith(("#", "torch=="))]


def _resolved(requirements: list[str], pythons: tuple[str, ...]) -> Locked:
    found: Locked = {}
    for python in pythons:
        for name, (version, sums) in _reported(requirements, python).items():
            known, hashes = found.setdefault(name, (version, set()))
            if known != version:
                raise SystemExit(f"{name} is {known} or {version}, depending on Python: pin it in constraints.txt")
            hashes |= sums
    return found


def _sources(requirements: list[str]) -> tuple[Locked, list[str]]:
    """What is built from source, and what that needs beside torch."""
    items = _report(["--no-deps", *requirements])
    needs = {need for item in items for need in item["metadata"]["requires_dist"] if "extra ==" not in need}
    return _locked(items), sorted(need for need in needs if not need.startswith("torch"))


def _reported(requirements: list[str], python: str) -> Locked:
    """What pip would install for this Python on Linux, x86_64."""
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "constraints.txt")
        known = (ROOT / "constraints.txt").read_text().splitlines()
        constraints.write_text("\n".join(line for line in known if not line.startswith("torch==")))
        platforms = [option for name in PLATFORMS for option in ("--platform", name)]
        options = ["--target", folder, "--only-binary", ":all:", "--python-version", python, *platforms]
        return _locked(_report([*options, "-c", str(constraints), *requirements]))


def _report(arguments: list[str]) -> list[dict[str, Any]]:
    """What pip says it would install; nothing is."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "report.json")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        subprocess.run([*command, "--report", str(path), *arguments], check=True)
        items: list[dict[str, Any]] = json.loads(path.read_text())["install"]
        return items


def _locked(items: list[dict[str, Any]]) -> Locked:
    return {
        canonical(item["metadata"]["name"]): (
            item["metadata"]["version"],
            {item["download_info"]["archive_info"]["hashes"]["sha256"]},
        )
        for item in items
    }


def canonical(name: str) -> str:
    """A package's name as lists compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _write(name: str, found: Locked, use: str) -> None:
    entries = [
        f"{package}{'===' if package == 'torch' else '=='}{version}"
        + "".join(f" \\\n    --hash=sha256:{one}" for one in sorted(sums))
        for package, (version, sums) in sorted(found.items())
    ]
    text = HEAD.format(use=use) + "".join(f"{entry}\n" for entry in entries)
    (LOCKED / f"{name}.txt").write_text(text)


if __name__ == "__main__":
    main()
