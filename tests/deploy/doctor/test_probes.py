"""What doctor sees of an account that answers: the emulator's own services, asked as AWS is asked."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from spotune.aws import clients
from spotune.contracts.layout import MODEL_MARKER
from spotune.contracts.market import quota_name
from spotune.contracts.request import Market
from spotune.deploy.doctor import probe_account, probe_image, probe_installation
from spotune.deploy.doctor.probing import look
from spotune.deploy.doctor.seen import Answer, BaseModel, Caller, Refused, Subscription, Unseen
from spotune.deploy.image_name import ImageName

REGION = "us-east-1"
ACCOUNT = "000000000000"
Account = Callable[[str], Any]
MARKETS: tuple[Market, ...] = ("spot", "on_demand")

STACK = {
    "Resources": {
        "AlarmTopic": {"Type": "AWS::SNS::Topic"},
        "AlarmSubscription": {
            "Type": "AWS::SNS::Subscription",
            "Properties": {"TopicArn": {"Ref": "AlarmTopic"}, "Protocol": "email", "Endpoint": "ada@example.org"},
        },
        "SpendAlarm": {
            "Type": "AWS::CloudWatch::Alarm",
            "Properties": {
                "Namespace": "Spotune",
                "MetricName": "Spend",
                "Statistic": "Sum",
                "Period": 86400,
                "EvaluationPeriods": 1,
                "ComparisonOperator": "GreaterThanThreshold",
                "Threshold": 100,
                "AlarmActions": [{"Ref": "AlarmTopic"}],
            },
        },
        "TrainingRole": {
            "Type": "AWS::IAM::Role",
            "Properties": {
                "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": []},
                "Policies": [
                    {
                        "PolicyName": "train",
                        "PolicyDocument": {
                            "Version": "2012-10-17",
                            "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}],
                        },
                    }
                ],
            },
        },
    },
    "Parameters": {"Jobs": {"Type": "Number", "Default": 100}},
    "Outputs": {
        "AlarmTopicArn": {"Value": {"Ref": "AlarmTopic"}},
        "RoleArn": {"Value": {"Fn::GetAtt": ["TrainingRole", "Arn"]}},
    },
}


@pytest.fixture
def stack(account: Account) -> Iterator[str]:
    stacks = account("cloudformation")
    stacks.create_stack(StackName="looked-at", TemplateBody=json.dumps(STACK), Capabilities=["CAPABILITY_IAM"])
    stacks.get_waiter("stack_create_complete").wait(StackName="looked-at", WaiterConfig={"Delay": 1})
    yield "looked-at"
    stacks.delete_stack(StackName="looked-at")


def test_who_asks_and_what_time_it_is_there(account: Account) -> None:
    seen, clocks = probe_account.caller(REGION)
    assert isinstance(seen, Caller)
    assert seen.account == ACCOUNT
    assert clocks is not None
    assert abs(clocks.ours - clocks.theirs) < 5


@contextlib.contextmanager
def answering(status: int, body: bytes, **headers: str) -> Iterator[str]:
    """The address of a server that says one thing."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


EXPIRED = b"<ErrorResponse><Error><Code>ExpiredToken</Code><Message>it is over</Message></Error></ErrorResponse>"


@pytest.mark.usefixtures("account")
def test_credentials_that_have_expired_tell_the_time_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(403, EXPIRED, Date=formatdate(time.time() - 1000, usegmt=True)) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        seen, clocks = probe_account.caller(REGION)
    assert seen == Refused("ExpiredToken", "it is over")
    assert clocks is not None
    assert 990 < clocks.ours - clocks.theirs < 1010


def test_no_credentials_are_told_apart_from_no_network(
    account: Account, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9")
    seen, clocks = probe_account.caller(REGION)
    assert isinstance(seen, Unseen)
    assert clocks is None
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    clients.client.cache_clear()
    seen, _ = probe_account.caller(REGION)
    assert isinstance(seen, Refused)
    assert seen.code == "NoCredentialsError"
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    clients.client.cache_clear()
    seen, _ = probe_account.caller(REGION)
    assert isinstance(seen, Refused)
    assert seen.code == "ProfileNotFound"


def test_quotas_are_read_with_the_requests_that_wait(account: Account) -> None:
    spot, on_demand = (quota_name("ml.g5.xlarge", market) for market in MARKETS)
    found = probe_account.quotas(REGION, {spot, on_demand, "no quota of AWS's"})
    assert {name: quota.asked for name, quota in found.items()} == {spot: None, on_demand: None}
    wanted = found[spot].value + 1
    account("service-quotas").request_service_quota_increase(
        ServiceCode="sagemaker", QuotaCode=found[spot].code, DesiredValue=wanted
    )
    again = probe_account.quotas(REGION, {spot, on_demand})
    assert {name: quota.asked for name, quota in again.items()} == {spot: wanted, on_demand: None}


def test_what_a_role_may_do_is_asked_of_iam(account: Account, stack: str) -> None:
    roles = probe_installation.roles(REGION, stack)
    seen = probe_account.decisions(REGION, roles["TrainingRole"], ["s3:GetObject", "s3:DeleteBucket"])
    assert {one.action: one.allowed for one in seen} == {"s3:GetObject": True, "s3:DeleteBucket": False}


def test_budgets_tell_whether_they_warn(account: Account) -> None:
    budget = {
        "BudgetName": "all",
        "BudgetLimit": {"Amount": "100", "Unit": "USD"},
        "TimeUnit": "MONTHLY",
        "BudgetType": "COST",
    }
    notification = {"NotificationType": "ACTUAL", "ComparisonOperator": "GREATER_THAN", "Threshold": 80.0}
    service = account("budgets")
    service.create_budget(AccountId=ACCOUNT, Budget=budget)
    assert [(one.name, one.warned) for one in probe_account.budgets(REGION, ACCOUNT)] == [("all", False)]
    service.create_notification(
        AccountId=ACCOUNT,
        BudgetName="all",
        Notification=notification,
        Subscribers=[{"SubscriptionType": "EMAIL", "Address": "ada@example.org"}],
    )
    assert [(one.name, one.warned) for one in probe_account.budgets(REGION, ACCOUNT)] == [("all", True)]


def test_functions_at_a_time_and_the_regions_state_are_read(account: Account) -> None:
    assert probe_account.concurrency(REGION) > 0
    assert probe_account.region_state(REGION, "eu-west-1") in ("opt-in-not-required", "opted-in")
    assert probe_account.region_state(REGION, "mars-north-1") == ""


def test_a_stack_is_read_with_its_alarms_and_who_hears_them(account: Account, stack: str) -> None:
    assert probe_installation.stack(REGION, "none-such") is None
    seen = probe_installation.stack(REGION, stack)
    assert seen is not None
    assert seen.status == "CREATE_COMPLETE"
    assert seen.parameters == {"Jobs": "100"}
    (alarm,) = probe_installation.alarms(REGION, stack)
    assert (alarm.name, alarm.actions) == ("SpendAlarm", True)
    account("cloudwatch").disable_alarm_actions(
        AlarmNames=[one["AlarmName"] for one in account("cloudwatch").describe_alarms()["MetricAlarms"]]
    )
    (alarm,) = probe_installation.alarms(REGION, stack)
    assert alarm.actions is False
    (heard,) = probe_installation.subscriptions(REGION, seen.outputs["AlarmTopicArn"])
    assert (heard.protocol, heard.endpoint) == ("email", "ada@example.org")
    assert Subscription("email", "ada@example.org", False).confirmed is False


def test_base_models_are_read_from_their_bucket(account: Account) -> None:
    s3 = account("s3")
    s3.create_bucket(Bucket="models")
    commit = "0123456789" * 4
    for key in (
        *(f"base/a/b/{MODEL_MARKER}", "base/a/b/config.json", "base/c/d/config.json", "market/x"),
        *(f"base/cut/off/{commit}/{MODEL_MARKER}", f"base/cut/off/{commit}/config.json"),
        *(f"base/whole/{MODEL_MARKER}", f"base/whole/{commit}/{MODEL_MARKER}"),
    ):
        s3.put_object(Bucket="models", Key=key, Body=b"12345")
    assert probe_installation.base_models(REGION, "models") == (
        BaseModel("a/b", 2, 10, True),
        BaseModel("c/d", 1, 5, False),
        BaseModel("cut/off", 2, 10, False),
        BaseModel("whole", 2, 10, True),
    )
    missing = look(lambda: probe_installation.base_models(REGION, "none-such-bucket"))
    assert isinstance(missing, Unseen)
    assert missing.code == "NoSuchBucket"


def test_a_network_is_read_as_far_as_it_is_there(account: Account) -> None:
    ec2 = account("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.9.0.0/24", AvailabilityZone="us-east-1a")["Subnet"]["SubnetId"]
    group = ec2.create_security_group(GroupName="training", Description="d", VpcId=vpc)["GroupId"]
    seen = probe_installation.network(REGION, [subnet, "subnet-none"], [group, "sg-none"])
    assert [(one.subnet, one.vpc) for one in seen.subnets] == [(subnet, vpc)]
    assert seen.groups == {group: vpc}
    assert seen.endpoints == frozenset()
    ec2.create_vpc_endpoint(VpcId=vpc, ServiceName="com.amazonaws.us-east-1.s3")
    assert probe_installation.network(REGION, [subnet], [group]).endpoints == {"s3"}


def test_a_key_is_read_with_its_rotation(account: Account) -> None:
    keys = account("kms")
    arn = keys.create_key()["KeyMetadata"]["Arn"]
    assert probe_installation.key(REGION, arn).state == "Enabled"
    keys.enable_key_rotation(KeyId=arn)
    assert probe_installation.key(REGION, arn).rotates is True
    keys.disable_key(KeyId=arn)
    assert probe_installation.key(REGION, arn).state == "Disabled"
    missing = look(lambda: probe_installation.key(REGION, arn.replace("-", "0")))
    assert isinstance(missing, Unseen)
    assert missing.code == "NotFoundException"


def config_of(architecture: str) -> bytes:
    return json.dumps({"architecture": architecture, "os": "linux"}).encode()


def push(registry: Any, repository: str, tag: str, architecture: str) -> str:
    """An image of nothing but its configuration; its digest."""
    config = config_of(architecture)
    upload = registry.initiate_layer_upload(repositoryName=repository)["uploadId"]
    registry.upload_layer_part(
        repositoryName=repository, uploadId=upload, partFirstByte=0, partLastByte=len(config) - 1, layerPartBlob=config
    )
    digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
    registry.complete_layer_upload(repositoryName=repository, uploadId=upload, layerDigests=[digest])
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "size": len(config),
            "digest": digest,
        },
        "layers": [],
    }
    put = registry.put_image(repositoryName=repository, imageManifest=json.dumps(manifest), imageTag=tag)
    return str(put["image"]["imageId"]["imageDigest"])


def test_an_image_is_read_down_to_its_processor(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = account("ecr")
    registry.create_repository(repositoryName="looked-at", imageTagMutability="IMMUTABLE")
    digest = push(registry, "looked-at", "1.0", "arm64")
    uri = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/looked-at"
    with answering(200, config_of("arm64")) as url:
        # The emulator keeps the layer, and says that it lies at an address of AWS's.
        monkeypatch.setattr(registry, "get_download_url_for_layer", lambda **_: {"downloadUrl": url})
        seen = probe_image.image(ImageName.of(f"{uri}:1.0"), REGION)
    assert seen is not None
    assert (seen.digest, seen.architectures, seen.mutable_tag) == (digest, ("arm64",), False)
    again = probe_image.image(ImageName.of(f"{uri}@{digest}"), REGION)
    assert again is not None
    assert (again.digest, again.architectures) == (digest, ()), "what cannot be fetched is not told"
    assert probe_image.image(ImageName.of(f"{uri}:2.0"), REGION) is None
    missing = look(lambda: probe_image.image(ImageName.of(f"{uri}-x:1"), REGION))
    assert isinstance(missing, Unseen)
    assert missing.code == "RepositoryNotFoundException"


def test_names_of_images_are_taken_apart() -> None:
    host = "111122223333.dkr.ecr.eu-west-1.amazonaws.com"
    digest = "sha256:" + "a" * 64
    assert ImageName.of(f"{host}/a/b:1") == ImageName("111122223333", "eu-west-1", "a/b", "1", "")
    assert ImageName.of(f"{host}/a") == ImageName("111122223333", "eu-west-1", "a", "latest", "")
    assert ImageName.of(f"{host}/a:1@{digest}").identifier == {"imageDigest": digest}
    assert ImageName.of(f"{host}/a:1").identifier == {"imageTag": "1"}
    with pytest.raises(ValueError, match="ECR alone"):
        ImageName.of("docker.io/library/python:3.11")


def test_an_address_that_does_not_answer_is_seen_to_be_silent(double: Any) -> None:
    assert probe_installation.answer("http://127.0.0.1:9").status == 0
    assert probe_installation.answer("no address").status == 0
    assert probe_installation.answer(double.url).status >= 400
    assert Answer(200).status == 200


def test_a_stack_that_may_not_be_looked_at_is_unseen_with_awss_own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    cloudformation = boto3.client("cloudformation", REGION, aws_access_key_id="a", aws_secret_access_key="b")
    monkeypatch.setattr(probe_installation, "client", lambda *_: cloudformation)
    with Stubber(cloudformation) as stubbed:
        stubbed.add_client_error("describe_stacks", "AccessDenied", "no cloudformation:DescribeStacks", 403)
        seen = look(lambda: probe_installation.stack(REGION, "spotune-prod"))
    assert isinstance(seen, Unseen)
    assert seen.denied
    assert "cloudformation:DescribeStacks" in seen.reason
