"""What the template of a further region promises, read from the template itself."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import yaml

from spotune.contracts.layout import region_bucket
from tests.infra import test_template as main

TEMPLATE = main.TEMPLATE.with_name("region.yaml")
DOCUMENT: dict[str, Any] = yaml.load(TEMPLATE.read_text(), main._Loader)
RESOURCES: dict[str, Any] = DOCUMENT["Resources"]


def of_type(kind: str) -> dict[str, Any]:
    return {name: body["Properties"] for name, body in RESOURCES.items() if body["Type"] == kind}


BUCKETS = {name: body for name, body in of_type("AWS::S3::Bucket").items() if name != "AccessLogsBucket"}


def test_cfn_lint_finds_nothing() -> None:
    lint = main.Path(sys.executable).with_name("cfn-lint")
    found = subprocess.run([lint, TEMPLATE], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


@pytest.mark.parametrize("name", BUCKETS)
def test_its_buckets_are_kept_as_those_at_home(name: str) -> None:
    like = "ArtifactsBucket" if name == "JobsBucket" else name
    at_home = {key: value for key, value in main.BUCKETS[like].items() if key != "NotificationConfiguration"}
    assert {key: value for key, value in BUCKETS[name].items() if key != "BucketName"} == at_home
    assert RESOURCES[name]["DeletionPolicy"] == RESOURCES[name]["UpdateReplacePolicy"] == "Retain"
    (policy,) = (p for p in of_type("AWS::S3::BucketPolicy").values() if p["Bucket"] == {"Ref": name})
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_its_buckets_have_the_names_that_the_installation_reads() -> None:
    prefix = main.DOCUMENT["Globals"]["Function"]["Environment"]["Variables"]["SPOTUNE_BUCKET_PREFIX"]["Fn::Sub"]
    wanted = {region_bucket(prefix, "${AWS::Region}", what) for what in ("data", "jobs", "models")}
    assert {bucket["BucketName"]["Fn::Sub"] for bucket in BUCKETS.values()} == wanted


def test_the_longest_name_of_a_bucket_is_one_that_s3_takes() -> None:
    longest = region_bucket("spotune-" + "s" * 20 + "-" + "1" * 12, "ap-southeast-1", "models")
    assert len(longest) <= 63
    assert DOCUMENT["Parameters"]["Stage"]["AllowedPattern"] == main.DOCUMENT["Parameters"]["Stage"]["AllowedPattern"]


def test_events_of_our_training_jobs_alone_go_to_the_home_bus_alone() -> None:
    (rule,) = of_type("AWS::Events::Rule").values()
    at_home = main.FUNCTIONS["TrainingChangedFunction"]["Events"]["StateChange"]["Properties"]["Pattern"]
    assert rule["EventPattern"] == at_home
    (target,) = rule["Targets"]
    (role,) = of_type("AWS::IAM::Role").values()
    (statement,) = role["Policies"][0]["PolicyDocument"]["Statement"]
    assert statement["Action"] == "events:PutEvents"
    assert statement["Resource"] == target["Arn"]
    assert "${HomeRegion}" in target["Arn"]["Fn::Sub"]
    assert target["RoleArn"] == {"Fn::GetAtt": "ForwardingRole.Arn"}


def test_what_was_trained_there_is_deleted_with_what_jobs_there_have_of_others() -> None:
    granted = [s for s in main.statements("ReconcileRole") if "s3:DeleteObject" in main.listed(s["Action"])]
    where = " ".join(str(resource) for statement in granted for resource in main.listed(statement["Resource"]))
    assert "-*-jobs/*/jobs/*/output/*" in where
    assert "-*-jobs/*/jobs/*/checkpoints/*" in where
    assert "-*-data/*/copies/*" in where
