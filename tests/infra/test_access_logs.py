"""Who asked for which object is on record: the log of S3 itself, in both templates."""

from __future__ import annotations

from types import ModuleType

import pytest

from tests.infra import test_region, test_template

TEMPLATES = pytest.mark.parametrize("template", [test_template, test_region])
LOGS = "AccessLogsBucket"


@TEMPLATES
def test_every_bucket_that_holds_data_says_who_asked_for_what(template: ModuleType) -> None:
    logged = [bucket["LoggingConfiguration"] for bucket in template.BUCKETS.values()]
    assert {one["LogFilePrefix"] for one in logged} == {"data/", "artifacts/", "models/"}
    assert all(one["DestinationBucketName"] == {"Ref": LOGS} for one in logged)


@TEMPLATES
def test_the_log_is_private_kept_with_the_data_and_forgotten_in_time(template: ModuleType) -> None:
    bucket = template.RESOURCES[LOGS]
    assert bucket["DeletionPolicy"] == bucket["UpdateReplacePolicy"] == "Retain"
    kept = bucket["Properties"]
    assert set(kept["PublicAccessBlockConfiguration"].values()) == {True}
    # S3 delivers its logs to no bucket whose default is a key of KMS.
    assert kept["BucketEncryption"]["ServerSideEncryptionConfiguration"] == [
        {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    ]
    (rule,) = kept["LifecycleConfiguration"]["Rules"]
    assert rule["ExpirationInDays"] == {"Ref": "LogRetentionDays"}


@TEMPLATES
def test_s3_alone_writes_it_for_buckets_of_this_account_and_over_tls(template: ModuleType) -> None:
    (policy,) = (p for p in template.of_type("AWS::S3::BucketPolicy").values() if p["Bucket"] == {"Ref": LOGS})
    tls, write = policy["PolicyDocument"]["Statement"]
    assert (tls["Effect"], tls["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
    assert (write["Action"], write["Principal"]) == ("s3:PutObject", {"Service": "logging.s3.amazonaws.com"})
    assert write["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    assert LOGS not in str(template.of_type("AWS::IAM::Role")) + str(template.of_type("AWS::IAM::ManagedPolicy"))
