"""The list of the image's parts: what is installed, with licences, the same bytes for the same packages."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from infra.image.parts import parts

STATUS = """\
Package: libstdc++6
Status: install ok installed
Architecture: amd64
Version: 12.2.0-14+deb12u1
Description: GNU Standard C++ Library
 Version: 99

Package: vim
Status: deinstall ok config-files
Architecture: amd64
Version: 2:9.0

Package: g++
Status: install ok installed
Architecture: amd64
Version: 4:12.2.0-3
"""
SYSTEM = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_CODENAME=bookworm\n'


def system(folder: Path) -> tuple[Path, Path]:
    status, release = folder / "status", folder / "os-release"
    status.write_text(STATUS)
    release.write_text(SYSTEM)
    return status, release


def test_every_installed_package_is_a_part_with_its_version_and_licence() -> None:
    found = {part["name"]: part for part in parts(Path("none"))["components"]}
    assert {name: found[name]["version"] for name in ("pydantic", "pyyaml", "typing-extensions")} == {
        name: importlib.metadata.version(name) for name in ("pydantic", "pyyaml", "typing-extensions")
    }
    assert found["pydantic"]["purl"] == f"pkg:pypi/pydantic@{importlib.metadata.version('pydantic')}"
    assert found["pydantic"]["licenses"] == [{"expression": "MIT"}]


def test_the_systems_packages_are_parts_where_they_are_installed(tmp_path: Path) -> None:
    urls = [part["purl"] for part in parts(*system(tmp_path))["components"] if part["purl"].startswith("pkg:deb/")]
    assert urls == [
        "pkg:deb/debian/g%2B%2B@4%3A12.2.0-3?arch=amd64&distro=bookworm",
        "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1?arch=amd64&distro=bookworm",
    ]


def test_what_a_part_needs_leads_to_other_parts() -> None:
    document = parts(Path("none"))
    references = {part["bom-ref"] for part in document["components"]}
    needs = {entry["ref"]: entry["dependsOn"] for entry in document["dependencies"]}
    pydantic = f"pkg:pypi/pydantic@{importlib.metadata.version('pydantic')}"
    assert f"pkg:pypi/pydantic-core@{importlib.metadata.version('pydantic-core')}" in needs[pydantic]
    assert len(references) == len(document["components"])
    assert references >= {*needs, *(one for needed in needs.values() for one in needed)}


def test_the_document_fits_cyclonedxs_schema(tmp_path: Path) -> None:
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    document = parts(*system(tmp_path))
    assert validator.validate_str(json.dumps(document)) is None
    document["components"][0]["licence"] = "misspelt"
    assert validator.validate_str(json.dumps(document)) is not None


def test_the_same_packages_give_the_same_bytes(tmp_path: Path) -> None:
    program = Path(parts.__code__.co_filename)
    first, second = (subprocess.run([sys.executable, program], capture_output=True, check=True).stdout for _ in "12")
    assert first == second
    document = json.loads(first)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    other = parts(*system(tmp_path))
    assert other["serialNumber"] != document["serialNumber"]
