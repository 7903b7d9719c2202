"""How new data comes in, read from the template: S3's events, their queue, and what the function may do."""

from __future__ import annotations

import re

import pytest

from spotune.contracts.sources import parse_grants
from tests.infra.test_template import DOCUMENT, FUNCTIONS, RESOURCES, actions, listed, of_type, shared_statements
from tests.infra.test_template import statements as statements_of

RULES = of_type("AWS::Events::Rule")
ROLE = "DataArrivedRole"


def test_created_and_deleted_objects_of_the_data_bucket_go_to_the_queue() -> None:
    pattern = RULES["DataLanded"]["EventPattern"]
    assert pattern["source"] == ["aws.s3"]
    assert pattern["detail-type"] == ["Object Created", "Object Deleted"]
    assert pattern["detail"] == {"bucket": {"name": [{"Ref": "DataBucket"}]}}
    for rule in RULES.values():
        assert [target["Arn"] for target in rule["Targets"]] == [{"Fn::GetAtt": "ArrivalsQueue.Arn"}]


def test_further_buckets_are_those_that_the_operator_names_and_none_without() -> None:
    assert RULES["SourceDataLanded"]["EventPattern"]["resources"] == {"Ref": "SourceBuckets"}
    for name in ("SourceDataLanded", "ReadSourcesPolicy"):
        assert RESOURCES[name]["Condition"] == "HasSourceBuckets"
    assert DOCUMENT["Parameters"]["SourceBuckets"]["Default"] == ""
    reads = {action for one in shared_statements("ReadSourcesPolicy") for action in one["Action"]}
    assert reads == {"s3:GetObject", "s3:GetObjectVersion", "s3:ListBucket", "s3:ListBucketVersions"}


def test_eventbridge_alone_sends_and_for_our_rules_alone() -> None:
    (policy,) = of_type("AWS::SQS::QueuePolicy").values()
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    ours, further = statement["Condition"]["ArnEquals"]["aws:SourceArn"]
    assert ours == {"Fn::GetAtt": "DataLanded.Arn"}
    assert further["Fn::If"] == ["HasSourceBuckets", {"Fn::GetAtt": "SourceDataLanded.Arn"}, {"Ref": "AWS::NoValue"}]


def test_the_function_takes_ten_at_a_time_and_says_which_failed() -> None:
    events = FUNCTIONS["DataArrivedFunction"]["Events"]["Arrivals"]["Properties"]
    assert (events["BatchSize"], events["FunctionResponseTypes"]) == (10, ["ReportBatchItemFailures"])
    assert 2 <= events["ScalingConfig"]["MaximumConcurrency"] <= 10
    queue = RESOURCES["ArrivalsQueue"]["Properties"]
    assert queue["VisibilityTimeout"] >= 6 * FUNCTIONS["DataArrivedFunction"]["Timeout"]
    assert queue["RedrivePolicy"]["deadLetterTargetArn"] == {"Fn::GetAtt": "ArrivalsDeadLetters.Arn"}


def test_the_function_reads_files_and_writes_below_rules_alone() -> None:
    assert not actions(ROLE, "sagemaker") | actions(ROLE, "iam") | actions(ROLE, "secretsmanager")
    written = [r for s in statements_of(ROLE) if "s3:PutObject" in listed(s["Action"]) for r in listed(s["Resource"])]
    assert written == [{"Fn::Sub": "${DataBucket.Arn}/*/rules/*"}]
    assert "s3:DeleteObject" not in actions(ROLE, "s3")


def test_a_role_that_asks_for_versions_may_read_and_list_them() -> None:
    for role in (ROLE, "LaunchRole"):
        assert "s3:GetObjectVersion" in actions(role, "s3")
    assert "s3:ListBucketVersions" in actions("LaunchRole", "s3"), "the sweep lists them"


def test_no_role_has_more_policies_than_iam_attaches() -> None:
    for role in of_type("AWS::IAM::Role").values():
        assert len(role.get("ManagedPolicyArns", ())) <= 10


@pytest.mark.parametrize(
    ("text", "grants"),
    [
        ("", []),
        ("acme=logs", [("acme", "logs", "")]),
        ("acme=logs/a/b,globex=more", [("acme", "logs", "a/b/"), ("globex", "more", "")]),
        ("acme=logs/", [("acme", "logs", "")]),
    ],
)
def test_what_the_parameter_takes_is_what_the_service_reads(text: str, grants: list[tuple[str, str, str]]) -> None:
    assert re.fullmatch(DOCUMENT["Parameters"]["SourceTenants"]["AllowedPattern"], text)
    assert [(one.tenant, one.bucket, one.prefix) for one in parse_grants(text)] == grants


@pytest.mark.parametrize("text", ["acme", "=logs", "acme=", "acme=logs,,", "acme=Logs"])
def test_what_names_no_tenant_or_no_bucket_is_refused_by_the_parameter(text: str) -> None:
    assert not re.fullmatch(DOCUMENT["Parameters"]["SourceTenants"]["AllowedPattern"], text)


def test_a_prefix_ends_at_a_slash() -> None:
    (grant,) = parse_grants("acme=logs/a")
    assert grant.holds("logs", "a/x")
    assert not grant.holds("logs", "abc/x")
    assert not grant.holds("other", "a/x")
