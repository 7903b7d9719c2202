"""The policies against AWS's Service Authorization Reference, of which actions.json holds what is granted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.infra import actions
from tests.infra.test_template import RESOURCES, ROLES, STARS, grants, listed, unconditional

REFERENCE: dict[str, Any] = json.loads(actions.KEPT.read_text())
GLOBAL = "aws:"
"""Condition keys that every action knows."""

OPTIONAL = {"sagemaker:ListModelPackages"}
"""Granted on everything though a resource may be named; the reason is among the grants on every resource."""

ARNS = {
    "AWS::DynamoDB::Table": "arn:aws:dynamodb:r:a:table/{}",
    "AWS::IAM::Role": "arn:aws:iam::a:role/{}",
    "AWS::Logs::LogGroup": "arn:aws:logs:r:a:log-group:{}:*",
    "AWS::S3::Bucket": "arn:aws:s3:::{}",
    "AWS::SNS::Topic": "arn:aws:sns:r:a:{}",
    "AWS::SQS::Queue": "arn:aws:sqs:r:a:{}",
    "AWS::SecretsManager::Secret": "arn:aws:secretsmanager:r:a:secret:{}",
}
PARAMETERS = {
    "KmsKeyArn": "arn:aws:kms:r:a:key/k",
    "MlflowServers": "arn:aws:sagemaker:r:a:mlflow-tracking-server/m",
    "SourceBuckets": "arn:aws:s3:::source",
}


def arns(value: Any) -> Iterator[str]:
    """What a resource of a statement comes to, with names that stand for what only a deployment knows."""
    match value:
        case {"Fn::If": [_, *either]}:
            for one in either:
                yield from arns(one)
        case {"Ref": "AWS::NoValue"}:
            return
        case {"Fn::Split": _}:
            yield "arn:aws:s3:::source/*"
        case {"Fn::GetAtt": text}:
            yield _arn(str(text).partition(".")[0])
        case {"Ref": name}:
            yield PARAMETERS.get(name) or _arn(name)
        case {"Fn::Sub": [str() as text, _]} | {"Fn::Sub": str() as text}:
            yield re.sub(r"\$\{(\w+)\.Arn\}|\$\{[^}]+\}", lambda m: _arn(m[1]) if m[1] else "x", text.strip())
        case str():
            yield value


def _arn(name: str) -> str:
    return ARNS[RESOURCES[name]["Type"]].format(name)


def fits(arn: str, action: str) -> bool:
    """Whether an ARN, which may end in a wildcard, is of a kind that AWS checks the action on."""
    service, kind = arn.split(":", 5)[2], arn.split(":", 5)[5]
    for template in REFERENCE[action]["arns"]:
        their_service, their_kind = template.split(":", 5)[2], template.split(":", 5)[5]
        anything = "[^/]+" if service == "s3" and "/" not in their_kind else ".+"
        pattern = re.sub(r"\$\{\w+\}", anything, their_kind)
        # A wildcard may stand for the rest of what the reference spells out.
        spelt_out = (kind, kind.removesuffix("*") + "log-stream:x")
        if service == their_service and any(re.fullmatch(pattern, one) for one in spelt_out):
            return True
    return False


def test_the_file_holds_every_action_that_is_granted_and_no_other() -> None:
    assert actions.granted() == REFERENCE.keys(), "run python -m tests.infra.actions"


@pytest.mark.parametrize("role", ROLES)
def test_each_action_is_granted_on_what_aws_checks_it_on(role: str) -> None:
    """Else a grant would mean nothing, or less than it says."""
    for where, statement in grants(role):
        named, on = listed(statement["Action"]), [arn for one in listed(statement["Resource"]) for arn in arns(one)]
        if "*" in on:
            assert (where, statement["Sid"]) in STARS
            assert [one for one in named if REFERENCE[one]["arns"] and one not in OPTIONAL] == []
            continue
        assert [arn for arn in on if not any(fits(arn, one) for one in named)] == [], statement["Sid"]
        assert [one for one in named if not any(fits(arn, one) for arn in on)] == [], statement["Sid"]


def test_every_condition_key_is_one_that_aws_gives_with_the_action() -> None:
    for _, statement in (each for role in ROLES for each in grants(role)):
        for keys in map(unconditional, statement.get("Condition", {}).values()):
            for key in keys:
                unknown = [a for a in listed(statement["Action"]) if key not in REFERENCE[a]["keys"]]
                assert key.startswith(GLOBAL) or not unknown, (statement["Sid"], key, unknown)
