"""NVIDIA's driver under this container, and the libraries through which an older driver runs a newer CUDA.

Nothing here imports torch: the driver's library is loaded with it, and which one that is has to be settled before.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

COMPATIBILITY = Path("/usr/local/cuda/compat")
"""Where NVIDIA's base images keep their forward compatibility package (cuda-compat)."""
SEARCH_PATH = "LD_LIBRARY_PATH"
OLDEST_DRIVERS = {11: 450, 12: 525, 13: 580}
"""Branch of the driver that each CUDA asks for: NVIDIA's CUDA Compatibility guide, minor version compatibility."""

_MODULE = re.compile(r"Kernel Module.*?\s(\d+(?:\.\d+)+)\s")
_LIBRARY = re.compile(r"libcuda\.so\.(\d+(?:\.\d+)+)$")


def read_driver(told: Path = Path("/proc/driver/nvidia/version")) -> str | None:
    """The driver's version, as its kernel module tells it; None where there is none."""
    try:
        found = _MODULE.search(told.read_text())
    except OSError:
        return None
    return found[1] if found else None


def count_gpus(devices: Path = Path("/dev")) -> int:
    """GPUs that this container was given, by their device files: asking torch would take seconds."""
    return sum(path.name.removeprefix("nvidia").isdigit() for path in devices.glob("nvidia[0-9]*"))


def is_too_old(driver: str, cuda: str) -> bool:
    """True where this driver alone cannot run what was built for this CUDA."""
    oldest = OLDEST_DRIVERS.get(_branch(cuda))
    return oldest is not None and _branch(driver) < oldest


def bridge(
    driver: str | None, environment: Mapping[str, str], compatibility: Path = COMPATIBILITY
) -> dict[str, str] | None:
    """The environment in which the image's own driver libraries are found first; None where that is not wanted.

    They are wanted under an older driver alone: under a newer one CUDA refuses them (error 803).
    """
    before = environment.get(SEARCH_PATH, "")
    libraries = [found[1] for path in compatibility.glob("libcuda.so.*") if (found := _LIBRARY.search(path.name))]
    if driver is None or not libraries or str(compatibility) in before.split(":"):
        return None
    if _branch(driver) >= max(map(_branch, libraries)):
        return None
    return {**environment, SEARCH_PATH: f"{compatibility}:{before}".rstrip(":")}


def cross() -> None:
    """Begin this process anew with those libraries where the driver asks for it; does not return then.

    The linker reads its path when a process begins. The process keeps its number, and so hears the signals.
    """
    environment = bridge(read_driver(), os.environ)
    if environment is not None:
        print(f"The driver is {read_driver()}; the image's newer libraries stand before it.", file=sys.stderr)
        sys.stderr.flush()
        os.execve(sys.executable, sys.orig_argv, environment)  # noqa: S606


def _branch(version: str) -> int:
    return int(version.partition(".")[0])
