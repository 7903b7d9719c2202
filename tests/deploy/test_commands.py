"""`spotune deploy` and `spotune destroy` as they are typed, with a bundle of the locked wheels."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from spotune.cli import main
from spotune.cli.settings_file import read_settings
from spotune.deploy import deployment, templates
from tests.deploy.conftest import BUCKETS, IMAGE, REGION, Make
from tests.deploy.test_deployment import BAD, edited

pytestmark = pytest.mark.embedded

Line = Callable[..., tuple[int, str, str]]


@pytest.fixture
def line(
    aws_url: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, pytestconfig: pytest.Config, monkeypatch: Any
) -> Line:
    """Runs one command line in a folder and a home of its own: exit code, stdout, stderr."""
    home = tmp_path / "home"
    (home / "cache").mkdir(parents=True)
    (home / "cache" / "deploy").symlink_to(pytestconfig.cache.mkdir("bundles"), target_is_directory=True)
    monkeypatch.setenv("SPOTUNE_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main.run(list(words))
        seen = capsys.readouterr()
        return code, seen.out, seen.err

    return run


def write(stage: str, **fields: object) -> None:
    said = {
        "stage": stage,
        "region": REGION,
        "image": IMAGE,
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
    }
    Path("spotune-deploy.yaml").write_text(json.dumps({**said, **fields}))


def test_init_writes_the_settings_and_says_what_comes_next(line: Line) -> None:
    code, out, _ = line("deploy", "--init", "--region", "eu-central-1")
    assert (code, "spotune image build; spotune image push; spotune deploy" in out) == (0, True)
    assert read_settings(Path("spotune-deploy.yaml")).region == "eu-central-1"
    code, _, err = line("deploy", "--init")
    assert (code, "exists already" in err) == (2, True)


def test_without_settings_the_command_that_makes_them_is_named(line: Line) -> None:
    code, _, err = line("deploy")
    assert (code, "spotune deploy --init" in err) == (3, True)


def test_nothing_is_deployed_or_destroyed_without_a_yes(line: Line) -> None:
    write("asked")
    code, out, err = line("deploy")
    assert (code, "spotune-asked in us-east-1: new" in out, "--yes" in err) == (2, True, True)
    code, _, err = line("destroy")
    assert (code, "--yes" in err) == (2, True)
    assert json.loads(line("deploy", "--plan", "--json")[1])["steps"][0]["creates"] is True


class Person(io.StringIO):
    """At a terminal; does this before each answer, one after the other."""

    def __init__(self, *answers: Callable[[], str]) -> None:
        super().__init__()
        self.left = list(answers)

    def isatty(self) -> bool:
        return True

    def readline(self, *_: object) -> str:
        return self.left.pop(0)()


def test_what_somebody_else_changed_while_the_question_stood_is_shown_and_asked_again(
    line: Line, install: Make, code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.deploy(install("mulled"), code, lambda _: None)

    def after_somebody_else() -> str:
        deployment.deploy(install("mulled", limits={"jobs": 8}), code, lambda _: None)
        return "y\n"

    write("mulled", limits={"jobs": 7})
    person = Person(after_somebody_else, lambda: "n\n")
    monkeypatch.setattr(sys, "stdin", person)
    ended, out, err = line("deploy")
    assert (ended, person.left) == (2, [])
    assert "is not what was shown" in " ".join(out.split())
    assert out.count("Carry it out?") == 2
    assert "Nothing was changed" in err
    assert install("mulled").home.parameters()["Jobs"] == "8"
    monkeypatch.setattr(sys, "stdin", Person(lambda: "y\n"))
    assert line("deploy")[0] == 0
    assert install("mulled").home.parameters()["Jobs"] == "7"


def test_the_address_and_the_key_are_said_once_and_where_to_look_after_a_failure(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("told")
    with monkeypatch.context() as patch:
        patch.setattr(templates, "INSTALLATION", edited(templates.INSTALLATION, tmp_path, "\nResources:\n", BAD))
        ended, out, err = line("deploy", "--yes")
    assert (ended, "nobody" in err, "docs/deploying.md" in err) == (5, True, True)
    assert "SPOTUNE_API_KEY" not in out
    ended, out, err = line("deploy", "--yes")
    assert ended == 0, err
    key = re.search(r"SPOTUNE_API_KEY=(sk-\S+)", out)
    assert key is not None
    assert (out + err).count(key[1]) == 1
    assert "docs/deploying.md" not in err


def test_from_settings_to_an_answer_and_back_to_nothing(line: Line, aws_url: str) -> None:
    write("typed")
    code, out, err = line("deploy", "--yes", "--json")
    assert code == 0, err
    made = json.loads(out)
    url = f"{aws_url}/_aws/execute-api/{made['outputs']['ApiId']}/$default/v1/files"
    assert httpx.get(url, headers={"Authorization": f"Bearer {made['api_key']}"}, timeout=60).status_code == 200

    write("typed", log_retention_days=7)
    code, out, _ = line("deploy", "--plan")
    assert code == 0
    assert "spotune-typed-code in us-east-1: nothing to change" in out
    (row,) = [row for row in out.splitlines() if "ApiLogs" in row and "LogGroup" in row]
    assert row.split()[:3] == ["modify", "ApiLogs", "AWS::Logs::LogGroup"]
    assert "RetentionInDays" in row

    code, _, err = line("deploy", "--yes")
    assert (code, "AccessLogsBucket" in err, "--may-replace" in err) == (2, True, True)
    meant = [word for name in BUCKETS for word in ("--may-replace", name)]
    code, out, _ = line("deploy", "--yes", *meant)
    assert (code, made["api_key"] in out, "--new-key" in out) == (0, False, True)
    code, out, _ = line("deploy", "--new-key", "--json")
    another = json.loads(out)["key"]
    assert httpx.get(url, headers={"Authorization": f"Bearer {another}"}, timeout=60).status_code == 200

    code, _, err = line("destroy", "--yes", "--delete-data", "type")
    assert (code, "'type' was typed" in err) == (2, True)
    code, out, _ = line("destroy", "--yes", "--json")
    assert (code, "DataBucket" in [thing["name"] for thing in json.loads(out)["kept"]]) == (0, True)
    code, out, _ = line("destroy", "--yes", "--delete-data", "typed")
    assert (code, "typed is gone." in out) == (0, True)
