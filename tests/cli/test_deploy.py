"""`spotune deploy` where it cannot begin: a clear word, an exit code, and nothing made."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from spotune.cli import main

SETTINGS = """\
region: us-east-1
image: 123456789012.dkr.ecr.us-east-1.amazonaws.com/spotune-training:1
"""
NOBODY = "http://127.0.0.1:9"
Line = Callable[..., tuple[int, str]]


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Line:
    """Runs one command line in a folder and a home of its own, with credentials of nobody: exit code and stderr."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "SPOTUNE_HOME": str(tmp_path / "home"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spotune-deploy.yaml").write_text(SETTINGS)

    def run(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main.run(["deploy", *words])
        return code, " ".join(capsys.readouterr().err.split())

    return run


@pytest.fixture
def account() -> Iterator[None]:
    """An account that says whose it is. Asked for anything else, it would be noted here."""
    asked: list[str] = []
    made = boto3.Session.client

    def client(self: boto3.Session, service: str, *more: Any, **named: Any) -> Any:
        asked.append(service)
        return made(self, service, *more, **named)

    with mock_aws(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(boto3.Session, "client", client)
        yield
        assert set(asked) <= {"sts"}


MODES = pytest.mark.parametrize("mode", ["--plan", "--yes"])


@MODES
@pytest.mark.parametrize(
    ("variables", "code", "words"),
    [
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, 4, "no AWS credentials"),
        ({"AWS_SECRET_ACCESS_KEY": None}, 4, "no AWS credentials"),
        ({"AWS_PROFILE": "nobody"}, 4, "profile (nobody) could not be found"),
        ({"AWS_ENDPOINT_URL": NOBODY}, 5, "Check the name of the region, the endpoint and the network"),
        ({"AWS_ENDPOINT_URL": "nonsense"}, 2, "Invalid endpoint: nonsense. Correct region, AWS_ENDPOINT_URL"),
    ],
    ids=["no credentials", "half of them", "no such profile", "nobody answers", "no endpoint"],
)
def test_without_a_way_into_an_account_it_says_so(
    line: Line, monkeypatch: pytest.MonkeyPatch, mode: str, variables: dict[str, str | None], code: int, words: str
) -> None:
    for name, value in variables.items():
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value)
    ended, err = line(mode)
    assert (ended, "Internal error" in err) == (code, False)
    assert words in err
    assert not Path("home").exists()


@MODES
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SETTINGS + "budget: 3\n", "line 3: unknown field 'budget'. Did you mean 'budgets'?"),
        ("region: Ireland\n", "line 1: 'region'"),
        ("region: [\n", "line 2: not YAML"),
        ("", "is empty, and not an object of fields. Begin with `region:`"),
        ("- prod\n", "not an object of fields"),
        ("stage: \xff", "it is not UTF-8 text"),
        (None, "Is a directory"),
    ],
    ids=["unknown setting", "no region", "no YAML", "empty", "a list", "no text", "a folder"],
)
@pytest.mark.usefixtures("account")
def test_settings_that_cannot_be_read_are_told(line: Line, mode: str, text: str | None, words: str) -> None:
    path = Path("spotune-deploy.yaml")
    path.unlink()
    if text is None:
        path.mkdir()
    else:
        path.write_bytes(text.encode("latin-1"))
    ended, err = line(mode)
    assert (ended, words in err) == (2, True), err
    assert not Path("home").exists()


@MODES
@pytest.mark.usefixtures("account")
def test_a_bundle_that_cannot_be_fetched_ends_it_before_anything_is_made(
    line: Line, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    for name, value in {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": f"{NOBODY}/simple",
        "PIP_RETRIES": "0",
        "PIP_NO_CACHE_DIR": "1",
        "UV_DEFAULT_INDEX": f"{NOBODY}/simple",
        "UV_NO_CACHE": "1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    ended, err = line(mode)
    assert (ended, "The bundle's packages could not be fetched" in err) == (5, True), err
    assert list(Path("home", "cache", "deploy").iterdir()) == []


def test_a_settings_file_that_cannot_be_written_is_told(line: Line) -> None:
    ended, err = line("--init", "--settings", "nowhere/staging.yaml", "--region", "eu-west-1")
    assert (ended, "Cannot write nowhere/staging.yaml: No such file" in err) == (2, True), err
