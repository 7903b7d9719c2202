"""Which driver's libraries torch will find, decided before torch is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from training_container.driver import bridge, count_gpus, is_too_old, read_driver

OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (dvs-builder@U22)\n"
CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.163.01  Tue Apr  8 12:41:17 UTC 2025\nGCC version: 7.3\n"


def libraries(folder: Path, version: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"libcuda.so.{version}").touch()
    (folder / "libcuda.so.1").touch()
    (folder / f"libnvidia-ptxjitcompiler.so.{version}").touch()
    return folder


@pytest.mark.parametrize(
    ("text", "version"), [(OPEN, "580.95.05"), (CLOSED, "550.163.01"), ("", None), ("GCC 12", None)]
)
def test_the_kernel_module_tells_its_version(tmp_path: Path, text: str, version: str | None) -> None:
    told = tmp_path / "version"
    assert read_driver(told) is None
    told.write_text(text)
    assert read_driver(told) == version


def test_gpus_are_counted_by_their_own_device_files(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia11", "nvidiactl", "nvidia-uvm", "nvidia-modeset", "null"):
        (tmp_path / name).touch()
    assert count_gpus(tmp_path) == 2


@pytest.mark.parametrize(
    ("driver", "cuda", "old"),
    [("550.163.01", "13.0", True), ("580.65.06", "13.0", False), ("550.163.01", "12.8", False), ("1.0", "99.0", False)],
)
def test_a_driver_is_too_old_by_nvidias_table(driver: str, cuda: str, old: bool) -> None:
    assert is_too_old(driver, cuda) is old


def test_an_older_driver_gets_the_images_libraries_before_all_others(tmp_path: Path) -> None:
    compatibility = libraries(tmp_path / "compat", "580.95.05")
    bare = bridge("550.163.01", {"HOME": "/tmp"}, compatibility)
    assert bare == {"HOME": "/tmp", "LD_LIBRARY_PATH": str(compatibility)}
    before = bridge("550.163.01", {"LD_LIBRARY_PATH": "/usr/local/nvidia/lib"}, compatibility)
    assert before == {"LD_LIBRARY_PATH": f"{compatibility}:/usr/local/nvidia/lib"}
    # Begun anew, nothing is left to do.
    assert bridge("550.163.01", before, compatibility) is None


@pytest.mark.parametrize("driver", ["580.95.05", "580.126.09", "590.1", None])
def test_a_driver_as_new_as_the_libraries_is_left_alone(tmp_path: Path, driver: str | None) -> None:
    """Under it CUDA refuses libraries that are older than itself."""
    assert bridge(driver, {}, libraries(tmp_path / "compat", "580.95.05")) is None


def test_an_image_without_such_libraries_is_left_alone(tmp_path: Path) -> None:
    assert bridge("550.163.01", {}, tmp_path / "none") is None


def under_an_older_driver(compatibility: Path, then: str) -> str:
    """A program that says which libraries it finds first, and then does this."""
    return (
        "import os, runpy, sys\nfrom pathlib import Path\nfrom training_container import driver\n"
        "print(os.getpid(), *sys.argv[1:], os.environ.get('LD_LIBRARY_PATH', 'none'), flush=True)\n"
        "before = driver.bridge\ndriver.read_driver = lambda: '550.163.01'\n"
        f"driver.bridge = lambda told, environment: before(told, environment, Path({str(compatibility)!r}))\n"
        f"{then}\n"
    )


WITHOUT_PATH = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}


@pytest.mark.torch
def test_who_looks_at_the_machine_by_hand_sees_what_a_run_would_see(tmp_path: Path) -> None:
    compatibility = libraries(tmp_path / "compat", "580.95.05")
    program = under_an_older_driver(compatibility, "runpy.run_module('training_container.health', run_name='__main__')")
    found = subprocess.run(
        [sys.executable, "-c", program], env=WITHOUT_PATH, capture_output=True, text=True, check=False
    )
    begun = [line.split()[-1] for line in found.stdout.splitlines() if line.split()[0].isdecimal()]
    assert begun == ["none", str(compatibility)], found.stderr
    assert found.stdout.count("driver 550.163.01") == 1


def test_the_process_begins_anew_once_under_its_own_number_with_its_arguments(tmp_path: Path) -> None:
    """What started it goes on hearing of it, and it of signals."""
    compatibility = libraries(tmp_path / "compat", "580.95.05")
    command = [sys.executable, "-c", under_an_older_driver(compatibility, "driver.cross()"), "train"]
    process = subprocess.Popen(command, env=WITHOUT_PATH, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, told = process.communicate(timeout=60)
    number = process.pid
    assert out.splitlines() == [f"{number} train none", f"{number} train {compatibility}"]
    assert "The driver is 550.163.01" in told
