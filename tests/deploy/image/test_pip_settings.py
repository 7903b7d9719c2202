"""The pip of this machine and the pip inside of a build look in the same places."""

from __future__ import annotations

import configparser
import os
import subprocess
from pathlib import Path

import pytest

from spotune.deploy.image.pip_settings import CERTIFICATES, SECRET, Mounts, parse, prepare, read_settings
from spotune.deploy.wheels import find_pip

LISTING = """\
:env:.find-links='/wheels'
:env:.default-timeout='180'
global.find-links='/others'
global.index-url='https://user:secret@example.org/simple'
global.constraint='/etc/constraints.txt'
install.index-url='https://user:secret@example.org/installs'
freeze.timeout='1'
list.format='columns'
"""


def told(mounts: Mounts) -> dict[str, str]:
    """What the build's pip reads."""
    parser = configparser.RawConfigParser()
    parser.read(mounts.secrets[SECRET])
    return dict(parser["global"])


def test_variables_beat_files_and_what_no_build_needs_is_left_here() -> None:
    assert parse(LISTING) == {
        "find-links": "/wheels",
        "default-timeout": "180",
        "index-url": "https://user:secret@example.org/installs",
    }


def test_what_pip_lists_here_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "pip.conf"
    config.write_text("[global]\nextra-index-url =\n    https://one.example\n    https://two.example\n")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.setenv("PIP_TIMEOUT", "7")
    found = read_settings()
    assert found["timeout"] == "7"
    assert found["extra-index-url"].split() == ["https://one.example", "https://two.example"]


def test_files_of_this_machine_have_other_places_inside(tmp_path: Path) -> None:
    wheels, index, certificates = tmp_path / "wheels", tmp_path / "pypi" / "simple", tmp_path / "ca.pem"
    wheels.mkdir()
    index.mkdir(parents=True)
    certificates.write_text("certificate")
    settings = {
        "find-links": f"{wheels} https://example.org/links",
        "extra-index-url": f"file://{index} https://example.org/simple",
        "cert": str(certificates),
    }
    mounts = prepare(settings, tmp_path)
    # The index points at files beside it.
    assert mounts.folders == {index.parent: "/run/packages/0", wheels: "/run/packages/1"}
    assert mounts.secrets[CERTIFICATES] == certificates
    assert told(mounts) == {
        "cert": "/run/secrets/pip-cert.pem",
        "extra-index-url": "file:///run/packages/0/simple https://example.org/simple",
        "find-links": "/run/packages/1 https://example.org/links",
    }


def test_pip_itself_reads_what_is_written(tmp_path: Path) -> None:
    pip = find_pip()
    assert pip is not None
    settings = {"index-url": "https://user:p%40ss%w@example.org/simple", "timeout": "9"}
    mounts = prepare(settings, tmp_path)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PIP_CONFIG_FILE": str(mounts.secrets[SECRET])}
    run = subprocess.run([*pip, "config", "list"], env=environment, capture_output=True, text=True, check=True)
    assert {name: value for name, value in parse(run.stdout).items() if name in settings} == settings


def test_a_machine_without_settings_gives_an_empty_file(tmp_path: Path) -> None:
    mounts = prepare({}, tmp_path)
    assert told(mounts) == {}
    assert list(mounts.secrets) == [SECRET]
