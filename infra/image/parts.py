"""The parts of the training image as a CycloneDX document (SBOM): its Python and its system packages, with licences.

    python parts.py > parts.cdx.json        in the image, whose last step but one this is

The same packages give the same bytes: no time, and a serial number that follows from the parts.
"""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import quote

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

Part = dict[str, Any]
LONGEST_LICENCE = 80
"""Characters of a licence's name; some packages have the whole text there."""


def parts(status: Path = Path("/var/lib/dpkg/status"), system: Path = Path("/etc/os-release")) -> Part:
    """The document of this environment.

    Args:
        status: the list of Debian's packages; none are named where it is missing.
        system: names the distribution that they come from.
    """
    ours: dict[str, Distribution] = {canonicalize_name(found.metadata["Name"]): found for found in distributions()}
    python = [_python_part(name, found) for name, found in sorted(ours.items())]
    components = [*python, *_system_parts(status, system)]
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(components, sort_keys=True))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": serial.urn,
        "version": 1,
        "metadata": {"component": {"type": "container", "bom-ref": "spotune-training", "name": "spotune-training"}},
        "components": components,
        "dependencies": [
            {"ref": _python_url(name, found), "dependsOn": sorted(_needs(found, ours))}
            for name, found in sorted(ours.items())
        ],
    }


def _python_part(name: str, found: Distribution) -> Part:
    url = _python_url(name, found)
    part: Part = {"type": "library", "bom-ref": url, "name": name, "version": found.version, "purl": url}
    licences = list(_licences(found))
    return {**part, "licenses": licences} if licences else part


def _python_url(name: str, found: Distribution) -> str:
    return f"pkg:pypi/{name}@{quote(found.version)}"


def _licences(found: Distribution) -> Iterator[Part]:
    """One expression, or names: an expression stands alone."""
    metadata = found.metadata
    for expression in metadata.get_all("License-Expression", []):
        yield {"expression": expression}
        return
    named = [kind.rpartition(" :: ")[2] for kind in metadata.get_all("Classifier", []) if kind.startswith("License ::")]
    if not named:
        texts = [text.strip() for text in metadata.get_all("License", [])]
        named = [text.partition("\n")[0][:LONGEST_LICENCE] for text in texts if text]
    yield from ({"license": {"name": name}} for name in sorted(set(named)))


def _needs(found: Distribution, ours: dict[str, Distribution]) -> Iterator[str]:
    for text in found.requires or ():
        needed = Requirement(text)
        name = canonicalize_name(needed.name)
        if name in ours and (needed.marker is None or needed.marker.evaluate({"extra": ""})):
            yield _python_url(name, ours[name])


def _system_parts(status: Path, system: Path) -> Iterator[Part]:
    if not status.exists():
        return
    names = dict(line.split("=", 1) for line in system.read_text().splitlines() if "=" in line)
    family, release = (names.get(key, "").strip('"') for key in ("ID", "VERSION_CODENAME"))
    for block in sorted(status.read_text().strip().split("\n\n")):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Status") == "install ok installed":
            name, version = fields["Package"], fields["Version"]
            url = f"pkg:deb/{family}/{quote(name)}@{quote(version)}?arch={fields['Architecture']}&distro={release}"
            yield {"type": "library", "bom-ref": url, "name": name, "version": version, "purl": url}


if __name__ == "__main__":
    json.dump(parts(), sys.stdout, indent=1)
