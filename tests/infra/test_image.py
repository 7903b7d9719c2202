"""The training image has what the trainer imports, as the tests run with it, in layers that change seldom."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from itertools import takewhile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from infra.lock_image import canonical
from spotune.deploy.image.context import ROOMS

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "infra" / "image"
REQUIREMENTS = ROOT / "training_container" / "requirements.txt"
ON_CUDA = ROOT / "training_container" / "requirements-cuda.txt"
LISTS = {
    "cuda": ("cuda-runtime", "cuda-torch", "libraries", "sources"),
    "cpu": ("cpu-runtime", "cpu-torch", "libraries", "sources"),
}


def pinned(path: Path) -> dict[str, str]:
    """Canonical name and version of each line, a build's label left out."""
    found = re.findall(r"^([\w.-]+)={2,3}([^\s+;]+)", path.read_text(), re.MULTILINE)
    return {canonical(name): version for name, version in found}


def locked(accelerator: str) -> dict[str, str]:
    return {name: version for each in LISTS[accelerator] for name, version in pinned(IMAGE / f"{each}.txt").items()}


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's, without comments, each with its arguments on one line."""
    text = re.sub(r"^#.*\n", "", (IMAGE / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(word, " ".join(rest.split())) for word, _, rest in (line.partition(" ") for line in lines) if word]


def imported(path: Path) -> Iterator[str]:
    """Top-level names, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def test_every_library_that_the_trainer_imports_is_in_the_image_by_name() -> None:
    ours, optional = {"training_container", "spotune"}, {"flash_attn"}
    names = {name for room in ROOMS for path in (ROOT / room).rglob("*.py") for name in imported(path)}
    distributions = metadata.packages_distributions()
    missing = {
        name
        for name in names - ours - optional - set(sys.stdlib_module_names)
        if not {canonical(one) for one in distributions.get(name, (name,))} & {*pinned(REQUIREMENTS), *pinned(ON_CUDA)}
    }
    assert missing == set()


@pytest.mark.parametrize("accelerator", LISTS)
def test_the_image_has_the_versions_that_the_tests_run_with(accelerator: str) -> None:
    known, image = pinned(ROOT / "constraints.txt"), locked(accelerator)
    assert {name: version for name, version in image.items() if known.get(name, version) != version} == {}
    named = pinned(REQUIREMENTS) | (pinned(ON_CUDA) if accelerator == "cuda" else {})
    assert {name: version for name, version in named.items() if image.get(name) != version} == {}


@pytest.mark.parametrize("accelerator", LISTS)
def test_the_lists_hold_all_that_a_listed_package_needs(accelerator: str) -> None:
    """pip is told to look for nothing else. What is not installed here, torch's CUDA, is looked at in the image."""
    image = locked(accelerator)
    missing = set()
    for name in image:
        try:
            needs = metadata.requires(name) or ()
        except metadata.PackageNotFoundError:
            continue
        for need in map(Requirement, needs):
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                missing |= {(name, canonical(need.name))} if canonical(need.name) not in image else set()
    assert missing == set()


@pytest.mark.parametrize("path", sorted(IMAGE.glob("*.txt")), ids=lambda path: path.stem)
def test_nothing_is_installed_that_is_not_hashed(path: Path) -> None:
    entries = re.split(r"\n(?=\S)", path.read_text())[1:]
    assert len(entries) == len(pinned(path))
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)


def test_every_install_asks_for_hashes_and_nothing_but_the_lists() -> None:
    """The rules are arguments: in force while the image is built, and gone from it."""
    found = instructions()
    rules = dict(rest.partition("=")[::2] for word, rest in found if word == "ARG")
    assert (rules["PIP_REQUIRE_HASHES"], rules["PIP_NO_DEPS"]) == ("1", "1")
    runs = [rest for word, rest in found if word == "RUN" and "pip install" in rest]
    assert len(runs) == 3
    assert all(re.findall(r"pip install (?:--no-build-isolation )?(\S+) /opt/locked/", run) for run in runs)
    assert all(run.count("pip install") == run.count(" -r /opt/locked/") for run in runs)
    first = found.index(("ARG", "PIP_REQUIRE_HASHES=1"))
    assert not [rest for word, rest in found[:first] if word == "RUN" and "pip install" in rest]


def test_settings_of_the_building_machine_are_mounted_and_never_copied() -> None:
    found = instructions()
    for rest in (rest for word, rest in found if word == "RUN" and "pip install" in rest):
        assert rest.startswith("--mount=type=secret,id=pip,target=/run/secrets/pip.conf")
    assert not [rest for word, rest in found if word in ("COPY", "ENV") and ("pip.conf" in rest or "PIP_" in rest)]


def test_the_code_is_the_last_layer_and_no_other_has_any() -> None:
    """After a change of code this one alone is sent. Each list comes right before what installs it."""
    layers = [(word, rest) for word, rest in instructions() if word in ("COPY", "ADD", "RUN")]
    assert layers[-1] == ("COPY", "code /opt/spotune")
    assert not [rest for _, rest in layers[:-1] if "code" in rest.split()]
    assert [rest for word, rest in layers[:-1] if word == "COPY"] == [
        "${ACCELERATOR}-runtime.txt /opt/locked/",
        "${ACCELERATOR}-torch.txt /opt/locked/",
        "libraries.txt sources.txt /opt/locked/",
        "parts.py /opt/",
    ]
    (opening,) = takewhile(lambda layer: layer[0] == "RUN", layers)
    assert "apt-get" in opening[1]


def test_the_trainer_is_process_one_so_that_it_hears_sigterm() -> None:
    assert instructions()[-1] == ("ENTRYPOINT", '["/opt/venv/bin/python", "-m", "training_container"]')


def test_the_base_is_cudas_and_can_be_another() -> None:
    # With its registry: podman resolves no short name where none is configured, as on Debian and Ubuntu.
    (first, default), (second, base), *_ = instructions()
    assert (first, second, base) == ("ARG", "FROM", "${BASE_IMAGE}")
    assert re.fullmatch(r"BASE_IMAGE=docker\.io/nvidia/cuda:[\d.]+-base-ubuntu24\.04", default)
