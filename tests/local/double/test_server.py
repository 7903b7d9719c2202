"""The wire: SageMaker's protocol by boto3, events through EventBridge, the control door."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local.double.conftest import Site, aws, channel, control, on_demand, training_job, until

pytestmark = pytest.mark.embedded

PASSES = ["Starting", "Downloading", "Training", "Uploading", "Completed"]


def code(refused: pytest.ExceptionInfo[ClientError]) -> str:
    found: str = refused.value.response["Error"]["Code"]
    return found


@pytest.fixture
def inbox(site: Site) -> Iterator[Any]:
    """Reads the state changes that EventBridge has put into a queue, as (source, secondary status)."""
    sqs, events = aws("sqs", site.settings.emulator_url), aws("events", site.settings.emulator_url)
    name = f"inbox-{site.home.name}"[:60]
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pattern = {"source": ["spotune.double"], "detail-type": ["SageMaker Training Job State Change"]}
    events.put_rule(Name=name, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=name, Targets=[{"Id": "1", "Arn": arn}])
    received: list[dict[str, Any]] = []

    def read(count: int) -> list[dict[str, Any]]:
        def enough() -> bool:
            messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
            for message in messages:
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            received.extend(json.loads(message["Body"]) for message in messages)
            return len(received) >= count

        until(enough)
        return received

    yield read
    events.remove_targets(Rule=name, Ids=["1"])
    events.delete_rule(Name=name)
    sqs.delete_queue(QueueUrl=queue)


def test_every_change_arrives_through_eventbridge_with_the_jobs_description(site: Site, inbox: Any) -> None:
    site.entry_point("pass")
    tags = [{"Key": "spotune:tenant", "Value": "a"}]
    site.sagemaker.create_training_job(**training_job("event-1", Tags=tags))
    events = inbox(5)
    assert sorted(event["detail"]["SecondaryStatus"] for event in events) == sorted(PASSES)
    last = next(event for event in events if event["detail"]["SecondaryStatus"] == "Completed")
    assert last["resources"] == [last["detail"]["TrainingJobArn"]]
    assert last["detail"]["Tags"] == {"spotune:tenant": "a"}
    assert [entry["Status"] for entry in last["detail"]["SecondaryStatusTransitions"]] == PASSES


def test_events_are_duplicated_and_dropped_on_request(site: Site, inbox: Any) -> None:
    site.entry_point("pass")
    control(site, "events", {"mode": "duplicate", "count": 2})
    site.sagemaker.create_training_job(**training_job("twice-1"))
    site.end("twice-1")
    assert len(inbox(7)) == 7
    control(site, "events", {"mode": "drop", "count": 4})
    site.sagemaker.create_training_job(**training_job("drop-1"))
    site.end("drop-1")
    assert inbox(8)[-1]["detail"]["SecondaryStatus"] == "Completed"


def test_a_name_is_used_once_for_ever(site: Site) -> None:
    site.entry_point("pass")
    site.sagemaker.create_training_job(**on_demand("name-1"))
    for _ in range(2):
        with pytest.raises(ClientError) as refused:
            site.sagemaker.create_training_job(**on_demand("name-1"))
        assert code(refused) == "ResourceInUse"
        site.end("name-1")


def test_spot_and_on_demand_quotas_are_apart_and_say_their_numbers(site: Site) -> None:
    control(site, "quota", {"InstanceType": "ml.g5.xlarge", "market": "spot", "limit": 0})
    with pytest.raises(ClientError, match=r"'ml\.g5\.xlarge for spot training job usage' is 0 Instances") as refused:
        site.sagemaker.create_training_job(**training_job("quota-1"))
    assert code(refused) == "ResourceLimitExceeded"
    site.entry_point("pass")
    site.sagemaker.create_training_job(**on_demand("quota-2"))
    site.end("quota-2")


def test_an_unknown_job_is_answered_as_sagemaker_does(site: Site) -> None:
    for call in (site.sagemaker.describe_training_job, site.sagemaker.stop_training_job):
        with pytest.raises(ClientError, match="Requested resource not found") as refused:
            call(TrainingJobName="nobody")
        assert code(refused) == "ValidationException"


def test_lists_are_filtered_ordered_and_paged_without_gaps_while_jobs_arrive(site: Site) -> None:
    site.entry_point("pass")
    for number in range(5):
        site.sagemaker.create_training_job(**on_demand(f"list-{number}"))
    first = site.sagemaker.list_training_jobs(MaxResults=2, NameContains="list-")
    site.sagemaker.create_training_job(**on_demand("list-5"))
    rest = site.sagemaker.list_training_jobs(MaxResults=100, NameContains="list-", NextToken=first["NextToken"])
    names = [job["TrainingJobName"] for page in (first, rest) for job in page["TrainingJobSummaries"]]
    assert names == [f"list-{number}" for number in range(6)]
    for name in names:
        site.end(name)
    newest = site.sagemaker.list_training_jobs(SortOrder="Descending", StatusEquals="Completed", MaxResults=1)
    assert newest["TrainingJobSummaries"][0]["TrainingJobName"] == "list-5"
    later = datetime.now(UTC) + timedelta(hours=1)
    assert site.sagemaker.list_training_jobs(CreationTimeAfter=later)["TrainingJobSummaries"] == []
    with pytest.raises(ClientError, match="Invalid NextToken"):
        site.sagemaker.list_training_jobs(NextToken="mine")


def test_tags_are_kept_with_the_job(site: Site) -> None:
    site.entry_point("pass")
    request = on_demand("tags-1", Tags=[{"Key": "a", "Value": "1"}])
    arn = site.sagemaker.create_training_job(**request)["TrainingJobArn"]
    site.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "b", "Value": "2"}])
    tags = site.sagemaker.list_tags(ResourceArn=arn)["Tags"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"a": "1", "b": "2"}
    site.end("tags-1")


def test_an_operation_that_the_double_lacks_is_refused_by_name(site: Site) -> None:
    with pytest.raises(ClientError, match=r"no operation SageMaker\.ListEndpoints"):
        site.sagemaker.list_endpoints()


def test_a_request_that_is_no_json_is_refused(site: Site) -> None:
    headers = {"X-Amz-Target": "SageMaker.CreateTrainingJob"}
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(site.server.url, b"{", headers=headers), timeout=5)
    with refused.value as response:
        assert json.load(response)["__type"] == "SerializationException"


def test_logs_are_read_on_from_an_offset_in_whole_characters(site: Site) -> None:
    site.entry_point('sys.stdout.buffer.write("één\\n".encode())')
    site.sagemaker.create_training_job(**on_demand("log-1"))
    site.end("log-1")
    whole = control(site, "logs/log-1")
    assert (whole["Text"], whole["NextOffset"]) == ("één\n", 6)
    assert control(site, f"logs/log-1?offset={whole['NextOffset']}") == {"Host": "algo-1", "Text": "", "NextOffset": 6}
    assert control(site, "logs/log-1?offset=4")["Text"] == "n\n"


@pytest.mark.parametrize(
    ("route", "body", "status", "words"),
    [
        ("interrupt", {"TrainingJobName": "nobody"}, 400, "not found"),
        ("interrupt", {}, 400, "TrainingJobName must be a str"),
        ("capacity", {"InstanceType": "ml.g5.xlarge", "available": "no"}, 400, "available must be a bool"),
        ("capacity", {"InstanceType": "ml.g5.xlarge", "trace_file": "/none"}, 400, "not a capacity trace"),
        ("events", {"mode": "loud"}, 400, "mode must be one of"),
        ("events", {"mode": "late", "late_seconds": -1}, 400, "late_seconds must be a number of seconds"),
        ("quota", {"InstanceType": "ml.g5.xlarge", "market": "gold", "limit": 1}, 400, "market must be"),
        ("reset", {}, 404, "no route POST /_double/reset"),
    ],
)
def test_the_control_door_names_what_is_wrong(
    site: Site, route: str, body: dict[str, Any], status: int, words: str
) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        control(site, route, body)
    with refused.value as response:
        assert response.status == status
        assert words in json.load(response)["error"]["message"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Content-Type": "text/plain"}, 415), ({"Content-Type": "application/json", "Host": "evil.example"}, 403)],
)
def test_a_web_page_cannot_use_the_control_door(site: Site, headers: dict[str, str], status: int) -> None:
    request = urllib.request.Request(f"{site.server.url}/_double/interrupt", b"{}", headers=headers)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=5)
    with refused.value as response:
        assert response.status == status


def test_boto3_takes_refusals_as_final_and_does_not_retry_them(site: Site) -> None:
    with pytest.raises(ClientError) as refused:
        site.sagemaker.describe_training_job(TrainingJobName="nobody")
    assert refused.value.response["ResponseMetadata"]["RetryAttempts"] == 0


def test_a_training_job_of_another_region_is_seen_stopped_and_announced_there_alone(site: Site) -> None:
    site.entry_point("time.sleep(60)")
    away = aws("sagemaker", site.server.url, "eu-west-1")
    bucket = f"far-{site.home.name}"[:60].replace("_", "-").lower()
    s3 = aws("s3", site.settings.emulator_url, "eu-west-1")
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.put_object(Bucket=bucket, Key="in/rows.jsonl", Body=b"{}")
    folders = {
        "OutputDataConfig": {"S3OutputPath": f"s3://{bucket}/output/", "CompressionType": "NONE"},
        "CheckpointConfig": {"S3Uri": f"s3://{bucket}/checkpoints/"},
        "InputDataConfig": [channel("training", f"s3://{bucket}/in/")],
    }
    arn = away.create_training_job(**training_job("far-1", **folders))["TrainingJobArn"]
    assert arn == "arn:aws:sagemaker:eu-west-1:000000000000:training-job/far-1"
    with pytest.raises(ClientError) as missing:
        site.describe("far-1")
    assert "not found" in str(missing.value)
    with pytest.raises(ClientError) as elsewhere:
        site.sagemaker.create_training_job(**training_job("near-1", **folders))
    assert "bucket exists in the selected region" in str(elsewhere.value)
    until(lambda: away.describe_training_job(TrainingJobName="far-1")["SecondaryStatus"] == "Training")
    assert control(site, "jobs/far-1")["Region"] == "eu-west-1"
    away.stop_training_job(TrainingJobName="far-1")
    until(lambda: away.describe_training_job(TrainingJobName="far-1")["TrainingJobStatus"] == "Stopped")


def test_a_training_job_of_another_region_is_taken_up_by_the_next_double(site: Site) -> None:
    site.entry_point("time.sleep(0.5)")
    away = aws("sagemaker", site.server.url, "eu-west-1")
    bucket = f"again-{site.home.name}"[:60].replace("_", "-").lower()
    s3 = aws("s3", site.settings.emulator_url, "eu-west-1")
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    folders = {
        "OutputDataConfig": {"S3OutputPath": f"s3://{bucket}/output/", "CompressionType": "NONE"},
        "CheckpointConfig": {"S3Uri": f"s3://{bucket}/checkpoints/"},
    }
    away.create_training_job(**training_job("far-2", **folders))
    site.server.stop()
    site.start()
    away = aws("sagemaker", site.server.url, "eu-west-1")
    until(lambda: away.describe_training_job(TrainingJobName="far-2")["TrainingJobStatus"] == "Completed")


def test_each_region_has_prices_of_its_own(site: Site) -> None:
    control(site, "market", {"region": "eu-west-1", "prices": {"ml.g5.xlarge": 0.5}})
    pricing = aws("pricing", site.server.url)

    def price(region: str) -> str:
        filters = [
            {"Type": "TERM_MATCH", "Field": "regionCode", "Value": region},
            {"Type": "TERM_MATCH", "Field": "component", "Value": "Training"},
        ]
        found = pricing.get_products(ServiceCode="AmazonSageMaker", Filters=filters)["PriceList"]
        return next(str(one) for one in found if "ml.g5.xlarge" in one)

    assert '"0.5' in price("eu-west-1")
    assert '"0.5' not in price("us-east-1")
