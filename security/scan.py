"""What security scanners find here, held against security/exceptions.yaml.

python security/scan.py templates     checkov on every CloudFormation template
python security/scan.py secrets       detect-secrets on every file of the repository
python security/scan.py advisories    pip-audit on every pinned package

`--offline-ok` lets a scanner off that reached nobody: a machine without network. No other failure is let off.

Exit codes: 0 nothing open, 1 something is, 3 the scanner could not look. The scanners stand in an environment of their
own (`make build/scan/ready`), since checkov pins an old boto3.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
SCANNERS = ROOT / "build" / "scan" / "bin"
EXCEPTIONS = ROOT / "security" / "exceptions.yaml"
PINNING = {"", ".sh", ".toml", ".txt", ".yaml", ".yml"}
"""Endings of files in which a package may be pinned: lists, and what installs one by its version (Makefile)."""
PIN = re.compile(r"^(?:[^#\n]*[ \t\"'])?([\w.-]+)={2,3}(\d[\w.!]*)", re.MULTILINE)
"""A package and its version, without a build's label (+cpu): advisories know none."""
QUIET = {"CKV_SKIP_PACKAGE_UPDATE_CHECK": "true", "LOG_LEVEL": "ERROR"}
"""Checkov asks the package index whether there is a newer one, unless told not to."""
PUBLISHED = ("benchmarks/data/gsm8k.jsonl",)
"""Data that others have published, and that takes longer to read than all the rest: none of us wrote a key into it."""
SHORTEST_REASON = 20
"""Characters. A word is no reason."""
CANNOT_LOOK = 3
UNREACHED = re.compile(
    r"requests\.exceptions\.(ConnectionError|ConnectTimeout|ReadTimeout): |.*Could not connect to OSV's vulnerability"
)
"""What pip-audit ends with where nobody answers. A proxy or a certificate that is refused (ProxyError, SSLError) is no
such end: somebody has answered."""


class CannotLook(Exception):
    """A scanner did not do its work. That is never the same as finding nothing."""


class Offline(CannotLook):
    """A scanner that has to ask somebody reached nobody."""


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that a scanner does not like."""

    check: str
    place: str
    says: str = ""


@dataclass(frozen=True)
class Kept:
    """Findings that are kept: of one check, at these places (`*` stands for any letters), for this reason."""

    check: str
    places: tuple[str, ...]
    reason: str

    def covers(self, finding: Finding, place: str) -> bool:
        """True where the finding is this check's, at this place."""
        return finding.check == self.check and fnmatchcase(finding.place, place)


def main(arguments: Sequence[str]) -> int:
    """Run one scanner, and say what is open."""
    what, offline_ok = arguments[0], "--offline-ok" in arguments[1:]
    try:
        findings = sorted(set(SCANS[what]()))
    except CannotLook as error:
        print(f"{what}: NOT LOOKED AT. {error}", file=sys.stderr)
        return 0 if offline_ok and isinstance(error, Offline) else CANNOT_LOOK
    kept = exceptions(what)
    problems = judged(findings, kept)
    print("\n".join(problems) or f"{what}: 0 open, {len(findings)} kept for {len(kept)} written reasons.")
    return 1 if problems else 0


def exceptions(what: str) -> tuple[Kept, ...]:
    """What the file of exceptions says of one scanner."""
    listed = yaml.safe_load(EXCEPTIONS.read_text())[what] or ()
    return tuple(Kept(one["check"], tuple(one["places"]), one["reason"]) for one in listed)


def judged(findings: Iterable[Finding], kept: Sequence[Kept]) -> list[str]:
    """What is open: findings without an exception, exceptions that nothing needs any more, or without a reason."""
    found = list(findings)
    open_ones = [one for one in found if not any(k.covers(one, place) for k in kept for place in k.places)]
    stale = [
        f"{k.check} at {place}: nothing is found there any more. Take it out of {EXCEPTIONS.name}."
        for k in kept
        for place in k.places
        if not any(k.covers(one, place) for one in found)
    ]
    bare = [f"{k.check}: its exception has no reason." for k in kept if len(k.reason.strip()) < SHORTEST_REASON]
    return [f"{one.check} at {one.place}: {one.says}" for one in open_ones] + stale + bare


def templates() -> Iterator[Finding]:
    """What checkov says of the templates, by resource.

    Raises:
        CannotLook: it did not read one of them.
    """
    files = [path for path in tracked() if path.suffix == ".yaml" and "AWSTemplateFormatVersion" in path.read_text()]
    if not files:
        raise CannotLook("git tracks no template here.")
    report = answer(
        "checkov", "--framework", "cloudformation", "--output", "json", "--compact", "--skip-download",
        "--file", *map(str, files),
    )  # fmt: skip
    results = report.get("results", {})
    passed, failed = results.get("passed_checks", []), results.get("failed_checks", [])
    unread = {path.name for path in files} - {Path(one["file_path"]).name for one in [*passed, *failed]}
    if unread or report.get("summary", {}).get("parsing_errors"):
        raise CannotLook(f"checkov did not read {', '.join(sorted(unread)) or 'a template'}.")
    for one in failed:
        kind, _, name = str(one["resource"]).rpartition(".")
        yield Finding(one["check_id"], f"{Path(one['file_path']).name}:{name}", f"{one['check_name']} ({kind})")


def secrets() -> Iterator[Finding]:
    """What looks like a secret in a file that git tracks; a finding is named by the start of its hash."""
    files = [name for path in tracked() if (name := str(path.relative_to(ROOT))) not in PUBLISHED]
    report = answer("detect-secrets", "scan", "--plugin", "security/secret_plugin.py", *files)
    if "SpotuneKeyDetector" not in {plugin["name"] for plugin in report["plugins_used"]}:
        raise CannotLook("detect-secrets runs without our own plugin.")
    for file, found in report["results"].items():
        for one in found:
            says = f"line {one['line_number']} may hold one. Take it out, and close it: it is known now."
            yield Finding(one["type"], f"{file}#{one['hashed_secret'][:8]}", says)


def advisories() -> Iterator[Finding]:
    """What OSV knows against a pinned package: the index's own advisories, GitHub's and others'.

    Raises:
        CannotLook: no answer, or not about each of them.
    """
    for file, pins in pinned():
        for package in audit(pins):
            if "skip_reason" in package:
                raise CannotLook(f"{package['name']}: {package['skip_reason']}")
            for one in package["vulns"]:
                mended = ", ".join(one["fix_versions"]) or "no version"
                yield Finding(one["id"], package["name"], f"{package['version']} of {file}; mended in {mended}")


def pinned() -> Iterator[tuple[str, list[str]]]:
    """Each file that pins packages, with its pins."""
    for path in tracked():
        if path.suffix in PINNING and (found := PIN.findall(path.read_text())):
            yield str(path.relative_to(ROOT)), [f"{name}=={version}" for name, version in found]


def audit(pins: Sequence[str]) -> Any:
    """What pip-audit says of each. It gets a list of its own: it cannot read `===`, with which the image is locked."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as listed:
        listed.write("\n".join(pins))
        listed.flush()
        report = answer(
            "pip-audit", "--vulnerability-service", "osv", "--requirement", listed.name, "--no-deps", "--disable-pip",
            "--format", "json", "--progress-spinner", "off",
        )  # fmt: skip
    return report["dependencies"]


def tracked() -> list[Path]:
    """Every file that git tracks and that is there, in order."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    except (OSError, subprocess.CalledProcessError) as error:
        raise CannotLook(f"git does not say what it tracks: {error}") from None
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def answer(scanner: str, *arguments: str) -> Any:
    """A scanner's JSON. Their exit codes say that something was found, which the JSON says better.

    Raises:
        Offline: there is none, since nobody could be asked.
        CannotLook: there is none.
    """
    try:
        ran = subprocess.run(
            [SCANNERS / scanner, *arguments],
            cwd=ROOT,
            env=os.environ | QUIET,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise CannotLook(f"{scanner} is not there ({error.strerror}): make build/scan/ready") from None
    try:
        return json.loads(ran.stdout)
    except ValueError:
        last = (ran.stderr.strip() or ran.stdout.strip() or "it said nothing").splitlines()[-1]
        kind = Offline if UNREACHED.match(last) else CannotLook
        raise kind(f"{scanner} ended with {ran.returncode}: {last}") from None


SCANS = {"templates": templates, "secrets": secrets, "advisories": advisories}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
