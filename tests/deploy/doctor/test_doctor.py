"""`spotune doctor` as a person calls it, on an account that the emulator plays."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from spotune.aws import clients
from spotune.cli import main
from tests.deploy.doctor.test_probes import ACCOUNT, REGION, STACK, answering, push
from tests.mirror.hub import FakeHub, named

Account = Callable[[str], Any]
Ran = tuple[int, dict[str, Any]]
NO_STACK = {"stack spotune-fresh"}


@pytest.fixture(autouse=True)
def far(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """The hub that this machine names, and nobody's token."""
    with named(monkeypatch, tmp_path / "hf") as hub:
        yield hub


@pytest.fixture
def doctor(account: Account, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs it with these settings; its exit code, and its findings by check."""

    def run(**settings: object) -> Ran:
        path = tmp_path / "spotune-deploy.yaml"
        path.write_text(json.dumps({"region": REGION, "stage": "fresh", **settings}))
        capsys.readouterr()
        code = main.run(["doctor", "--settings", str(path), "--json"])
        document = json.loads(capsys.readouterr().out)
        assert document["status"] in ("ok", "warn", "fail", "unknown")
        return code, {one["check"]: one for one in document["checks"]}

    return run


def image(account: Account, tag: str) -> str:
    registry = account("ecr")
    if "spotune-training" not in [one["repositoryName"] for one in registry.describe_repositories()["repositories"]]:
        registry.create_repository(repositoryName="spotune-training", imageTagMutability="IMMUTABLE")
    push(registry, "spotune-training", tag, "amd64")
    return f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/spotune-training:{tag}"


def test_an_account_before_its_first_deployment_lacks_the_image_alone(account: Account, doctor: Any) -> None:
    code, found = doctor()
    assert code == 7
    assert [name for name, one in found.items() if one["status"] == "fail"] == [f"image in {REGION}"]
    assert found["stack spotune-fresh"]["remedy"] == "`spotune deploy`"
    assert found["credentials"]["details"]["account"] == ACCOUNT
    assert found["clock"]["status"] == "ok"
    assert found[f"spot quotas in {REGION}"]["status"] == "ok"
    assert found["endpoints"]["status"] == "warn", "it is no AWS that answers here"
    assert (found["hub"]["status"], found["hub token"]["status"]) == ("ok", "ok")
    code, found = doctor(image=image(account, "before"))
    assert code == 0
    assert found[f"image in {REGION}"]["status"] == "ok"


def test_types_that_are_named_are_looked_up_one_by_one(doctor: Any) -> None:
    _, found = doctor(instance_types=["ml.g5.xlarge", "ml.p5.48xlarge"])
    listed = found[f"spot quotas in {REGION}"]["details"]["types"]
    assert [one["instance_type"] for one in listed] == ["ml.g5.xlarge", "ml.p5.48xlarge"]


def test_a_network_and_a_key_that_are_not_there_are_found(doctor: Any) -> None:
    key = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/00000000-0000-0000-0000-000000000000"
    code, found = doctor(vpc={"subnets": ["subnet-0a"], "security_groups": ["sg-0a"]}, kms_key_arn=key)
    assert code == 7
    assert (found["VPC"]["status"], found["key"]["status"]) == ("fail", "fail")
    assert "subnet-0a" in found["VPC"]["says"]


def test_an_installation_is_looked_at_to_its_last_part(account: Account, doctor: Any) -> None:
    account("s3").create_bucket(Bucket="fresh-models")
    document = {
        **STACK,
        "Outputs": {
            **STACK["Outputs"],
            "MirrorBucket": {"Value": "fresh-models"},
            "TrainingRoleArn": {"Value": {"Fn::GetAtt": ["TrainingRole", "Arn"]}},
        },
    }
    stacks = account("cloudformation")
    with answering(200, b"{}") as url:
        document["Outputs"]["ApiUrl"] = {"Value": url}
        stacks.create_stack(
            StackName="spotune-fresh", TemplateBody=json.dumps(document), Capabilities=["CAPABILITY_IAM"]
        )
        stacks.get_waiter("stack_create_complete").wait(StackName="spotune-fresh", WaiterConfig={"Delay": 1})
        code, found = doctor(image=image(account, "installed"), alarm_email="ada@example.org")
        stacks.delete_stack(StackName="spotune-fresh")
    assert code == 0, [one for one in found.values() if one["status"] == "fail"]
    assert {name: found[name]["status"] for name in ("stack spotune-fresh", "API", "budget alarm", "organization")} == {
        "stack spotune-fresh": "ok",
        "API": "ok",
        "budget alarm": "ok",
        "organization": "ok",
    }
    assert "Stage" in found["version"]["details"]["differs"], "this stack has none of the template's parameters"
    assert found["base models"]["status"] == "warn"


def test_without_credentials_nothing_else_is_asked(
    account: Account, doctor: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    clients.client.cache_clear()
    code, found = doctor()
    assert code == 7
    assert set(found) == {"endpoints", "bundle", "credentials", "clock", "account", "hub", "hub token"}
    assert "none on this machine" in found["credentials"]["says"]


def test_a_hub_that_is_not_there_and_a_token_that_it_refuses_fail_nothing(
    account: Account, doctor: Any, far: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, digits = image(account, "hub"), "b" * 34
    monkeypatch.setenv("HF_TOKEN", f"hf_{digits}")
    code, found = doctor(image=uri)
    assert (code, found["hub"]["status"], found["hub token"]["status"]) == (0, "ok", "warn")
    assert digits not in json.dumps(found)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    code, found = doctor(image=uri)
    assert (code, found["hub"]["status"], found["hub token"]["status"]) == (0, "warn", "unknown")


def test_a_person_reads_a_table_with_what_to_do(
    account: Account, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"region: {REGION}\n")
    assert main.run(["doctor", "--settings", str(path)]) == 7
    printed = capsys.readouterr().out
    assert "fail  image in us-east-1" in printed
    assert "spotune image build" in printed
    assert "1 fail" in printed


def test_no_settings_are_a_refusal_with_the_command_that_makes_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["doctor", "--settings", "/none/such.yaml"]) == 3
    assert "spotune deploy --init" in capsys.readouterr().err
