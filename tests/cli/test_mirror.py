"""`spotune models add, base, verify, remove`: what a person sees, and which installation it is about."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from spotune.cli import main
from spotune.local.deployment import client
from spotune.local.state import StackState, environment
from tests.local.double.conftest import channel, training_job
from tests.mirror.hub import FakeHub, named
from tests.mirror.models import NAME, OPEN, sharded

STAGE, BUCKET = "keepers", "keepers-models"
TEMPLATE = {
    "Resources": {"Models": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": BUCKET}}},
    "Outputs": {"MirrorBucket": {"Value": {"Ref": "Models"}}},
}
Said = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.embedded


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A hub that the environment names, and nobody's token."""
    with named(monkeypatch, tmp_path / "hf") as hub:
        yield hub


@pytest.fixture
def account(stack: StackState, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """S3 of an account with an installation whose settings lie in this folder."""
    for name, value in environment(stack).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spotune-deploy.yaml").write_text(f"stage: {STAGE}\nregion: us-east-1\n")
    stacks, objects = client("cloudformation", stack.emulator_url), client("s3", stack.emulator_url)
    stacks.create_stack(StackName=f"spotune-{STAGE}", TemplateBody=json.dumps(TEMPLATE))
    stacks.get_waiter("stack_create_complete").wait(
        StackName=f"spotune-{STAGE}", WaiterConfig={"Delay": 1, "MaxAttempts": 30}
    )
    yield objects
    for key in keys(objects):
        objects.delete_object(Bucket=BUCKET, Key=key)
    stacks.delete_stack(StackName=f"spotune-{STAGE}")


def keys(objects: Any) -> list[str]:
    return [one["Key"] for one in objects.list_objects_v2(Bucket=BUCKET).get("Contents", ())]


@pytest.fixture
def say(account: Any, far: FakeHub, capsys: pytest.CaptureFixture[str]) -> Said:
    def it(*arguments: str) -> tuple[int, str, str]:
        code = main.run(["models", *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return it


@pytest.fixture
def commit(far: FakeHub) -> str:
    return far.add(NAME, sharded(), card=OPEN)


def test_a_model_is_added_listed_verified_and_removed(say: Said, commit: str, account: Any) -> None:
    code, out, err = say("add", NAME)
    assert code == 0, err
    assert commit in out
    assert "apache-2.0" in out
    assert "left out consolidated.safetensors" in " ".join(out.split())
    _, out, _ = say("base", "--json")
    (listed,) = json.loads(out)["data"]
    assert (listed["name"], listed["revision"], listed["parameters"]) == (NAME, commit, 150_000)
    assert listed["added_by"].startswith("arn:aws:")
    assert commit[:12] in say("base")[1]
    assert "is what was added" in say("verify", NAME)[1]
    assert say("remove", NAME, "--yes")[0] == 0
    assert keys(account) == []
    assert say("verify", NAME)[0] == 3


def test_a_licence_is_shown_and_nothing_moves_until_it_is_accepted(say: Said, far: FakeHub, account: Any) -> None:
    text = b"You may.\x1b]0;owned\x07"
    far.add(NAME, sharded() | {"LICENSE": text}, card={"license": "bound1.0", "license_link": "https://x.example"})
    code, out, err = say("add", NAME)
    assert code == 2
    assert "You may." in out
    assert "\x1b]0" not in out, "a stranger's text gives this terminal no orders"
    assert "--accept-licence" in err
    assert keys(account) == []
    code, out, err = say("add", NAME, "--json")
    error = json.loads(err)["error"]
    assert (code, out, error["code"]) == (2, "", "licence_not_accepted")
    assert error["details"]["licence"]["id"] == "bound1.0"
    code, out, _ = say("add", NAME, "--accept-licence", "--json")
    assert code == 0
    assert json.loads(out)["accepted"]["by"].startswith("arn:aws:")


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 2)], ids=["yes", "no"])
def test_at_a_terminal_the_licence_is_a_question(
    say: Said, far: FakeHub, account: Any, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    far.add(NAME, sharded() | {"LICENSE": b"You may."}, card={"license": "bound1.0"})
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    ended, out, _ = say("add", NAME)
    assert ended == code
    assert out.index("You may.") < out.index("Do you accept this licence")
    assert bool(keys(account)) is (code == 0)


def test_what_was_changed_in_the_bucket_is_named_with_an_exit_code(say: Said, commit: str, account: Any) -> None:
    say("add", NAME)
    account.put_object(Bucket=BUCKET, Key=f"base/{NAME}/{commit}/config.json", Body=b"{}")
    code, _, err = say("verify", NAME, "--json")
    error = json.loads(err)["error"]
    assert (code, error["code"]) == (2, "base_model_differs")
    assert error["details"]["faults"] == [
        f"{commit}/config.json has 2 bytes instead of {len(sharded()['config.json'])}"
    ]


def test_nothing_is_removed_without_a_word(say: Said, commit: str, account: Any) -> None:
    say("add", NAME)
    code, _, err = say("remove", NAME, "--json")
    assert (code, json.loads(err)["error"]["code"]) == (2, "not_confirmed")
    assert say("verify", NAME)[0] == 0


def test_a_job_that_begins_while_the_question_stands_keeps_its_model(
    say: Said, commit: str, account: Any, stack: StackState, monkeypatch: pytest.MonkeyPatch
) -> None:
    sagemaker, door = client("sagemaker", stack.double_url), f"{stack.double_url}/_double/capacity"

    class Slow(io.StringIO):
        def isatty(self) -> bool:
            return True

        def readline(self, *_: object) -> str:
            model = channel("model", f"s3://{BUCKET}/base/{NAME}/{commit}/")
            where = f"s3://{stack.artifacts_bucket}/asked/"
            sagemaker.create_training_job(
                **training_job(
                    "ftjob-asked-1",
                    InputDataConfig=[model],
                    OutputDataConfig={"S3OutputPath": where},
                    CheckpointConfig={"S3Uri": where},
                )
            )
            return "y\n"

    say("add", NAME)
    before = keys(account)
    httpx.post(door, json={"InstanceType": "ml.g5.xlarge", "available": False}, timeout=30).raise_for_status()
    monkeypatch.setattr(sys, "stdin", Slow())
    try:
        code, _, err = say("remove", NAME)
    finally:
        sagemaker.stop_training_job(TrainingJobName="ftjob-asked-1")
        httpx.post(door, json={"InstanceType": "ml.g5.xlarge", "available": True}, timeout=30).raise_for_status()
    assert (code, "ftjob-asked-1" in err) == (2, True)
    assert keys(account) == before


def test_a_settings_file_of_what_is_not_deployed_is_told(say: Said, commit: str, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("stage: other\nregion: us-east-1\n")
    code, _, err = say("base", "--settings", str(tmp_path / "other.yaml"), "--json")
    assert (code, json.loads(err)["error"]["code"]) == (3, "not_deployed")
    code, _, err = say("base", "--settings", str(tmp_path / "none.yaml"), "--json")
    assert (code, json.loads(err)["error"]["code"]) == (3, "settings_missing")


def test_without_a_settings_file_it_is_embedded_mode_or_nothing(
    say: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "spotune-deploy.yaml").unlink()
    code, _, err = say("base", "--json")
    assert (code, json.loads(err)["error"]["code"]) == (5, "installation_not_found")


def test_embedded_mode_has_a_mirror_of_its_own(
    stack: StackState, say: Said, commit: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "spotune-deploy.yaml").unlink()
    monkeypatch.setenv("SPOTUNE_HOME", str(stack.home))
    for words in (("add", NAME), ("verify", NAME), ("remove", NAME, "--yes")):
        code, _, err = say(*words)
        assert code == 0, err
