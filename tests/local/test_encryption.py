"""What a caller's key is asked for, where an installation has one of its own."""

from __future__ import annotations

from typing import Any

import pytest

from spotune.local.encryption import uses_of_key

KEY = "arn:aws:kms:us-east-1:000000000000:key/mine"
ARN = "us-east-1:000000000000"
MADE = (
    *("spotune-data", "spotune-table", f"http://127.0.0.1:4566/{ARN.partition(':')[2]}/spotune-queue"),
    *(f"arn:aws:sns:{ARN}:spotune-topic", f"arn:aws:secretsmanager:{ARN}:secret:spotune-signing-abc123"),
)


def stacks(key: str) -> list[dict[str, Any]]:
    resources = {str(number): {"PhysicalResourceId": name} for number, name in enumerate(MADE)}
    others = {"Parameters": [], "_resources": {"Bucket": {"PhysicalResourceId": "code"}}}
    return [others, {"Parameters": [{"ParameterKey": "KmsKeyArn", "ParameterValue": key}], "_resources": resources}]


@pytest.mark.parametrize(
    ("action", "resource", "asked"),
    [
        ("s3:GetObject", "arn:aws:s3:::spotune-data/acme/files/a", {"kms:Decrypt"}),
        ("s3:PutObject", "arn:aws:s3:::spotune-data/acme/files/a", {"kms:GenerateDataKey"}),
        ("dynamodb:PutItem", f"arn:aws:dynamodb:{ARN}:table/spotune-table", {"kms:Decrypt"}),
        ("dynamodb:Query", f"arn:aws:dynamodb:{ARN}:table/spotune-table/index/gsi1", {"kms:Decrypt"}),
        ("sqs:SendMessage", f"arn:aws:sqs:{ARN}:spotune-queue", {"kms:Decrypt", "kms:GenerateDataKey"}),
        ("sns:Publish", f"arn:aws:sns:{ARN}:spotune-topic", {"kms:Decrypt", "kms:GenerateDataKey"}),
        (
            "secretsmanager:GetSecretValue",
            f"arn:aws:secretsmanager:{ARN}:secret:spotune-signing-abc123",
            {"kms:Decrypt"},
        ),
        ("s3:ListBucket", "arn:aws:s3:::spotune-data", set()),
        ("s3:GetObject", "arn:aws:s3:::code/bundle.zip", set()),
        ("s3:GetObject", "arn:aws:s3:::strangers/a", set()),
    ],
)
def test_the_key_is_asked_for_through_the_service_that_keeps_what_is_encrypted(
    action: str, resource: str, asked: set[str]
) -> None:
    uses = list(uses_of_key(action, resource, "us-east-1", stacks(KEY)))
    assert {one.action for one in uses} == asked
    assert {one.key for one in uses} <= {KEY}
    via = {"kms:ViaService": f"{action.partition(':')[0]}.us-east-1.amazonaws.com"}
    assert all(one.context == via for one in uses)
    assert list(uses_of_key(action, resource, "us-east-1", stacks(""))) == []
