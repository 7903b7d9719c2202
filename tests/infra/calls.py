"""Calls of AWS's APIs, each with the one action that decides about it; which role may make which is in test_roles.py.

A call that is let through need not succeed: what it names may not be there. None that a role may make changes anything
that another test here stands on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from spotune.local.state import ACCOUNT, REGION
from tests.guarded import Guarded

Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """One operation of a service. `arguments` are made of what was deployed."""

    service: str
    operation: str
    action: str
    arguments: Callable[[Guarded], Arguments]
    region: str = REGION


CALLS: dict[str, Call] = {}


def _add(name: str, service: str, operation: str, action: str, arguments: Callable[[Guarded], Arguments]) -> None:
    assert name not in CALLS, name
    CALLS[name] = Call(service, operation, action, arguments)


def arn(service: str, resource: str, region: str = REGION) -> str:
    """An ARN of this account, and of home where no region is named."""
    return f"arn:aws:{service}:{region}:{ACCOUNT}:{resource}"


def _objects() -> None:
    def add(name: str, operation: str, action: str, bucket: str, key: str, **more: object) -> None:
        _add(name, "s3", operation, action, lambda here: {"Bucket": here.resources[bucket], "Key": key, **more})

    for tenant in ("acme", "globex"):
        job = f"{tenant}/jobs/ftjob-a"
        add(f"{tenant}: read file", "get_object", "s3:GetObject", "DataBucket", f"{tenant}/files/f/a.jsonl")
        add(f"{tenant}: write file", "put_object", "s3:PutObject", "DataBucket", f"{tenant}/files/f/b.jsonl", Body=b"")
        add(f"{tenant}: delete file", "delete_object", "s3:DeleteObject", "DataBucket", f"{tenant}/files/f/gone")
        add(f"{tenant}: write rule", "put_object", "s3:PutObject", "DataBucket", f"{tenant}/rules/r/1", Body=b"")
        add(f"{tenant}: write elsewhere", "put_object", "s3:PutObject", "DataBucket", f"{tenant}/in/x", Body=b"")
        add(f"{tenant}: read job", "get_object", "s3:GetObject", "ArtifactsBucket", f"{job}/output/a")
        add(f"{tenant}: write config", "put_object", "s3:PutObject", "ArtifactsBucket", f"{job}/config/1/c", Body=b"")
        add(
            f"{tenant}: write quality", "put_object", "s3:PutObject", "ArtifactsBucket", f"{job}/quality.json", Body=b""
        )
        add(f"{tenant}: write checkpoint", "put_object", "s3:PutObject", "ArtifactsBucket", f"{job}/checkpoints/c")
        add(f"{tenant}: write output", "put_object", "s3:PutObject", "ArtifactsBucket", f"{job}/output/b", Body=b"")
        add(f"{tenant}: delete output", "delete_object", "s3:DeleteObject", "ArtifactsBucket", f"{job}/output/gone")
        add(
            f"{tenant}: delete checkpoint",
            "delete_object",
            "s3:DeleteObject",
            "ArtifactsBucket",
            f"{job}/checkpoints/c",
        )
        tags = {"TagSet": [{"Key": "spotune-job", "Value": "ended"}]}
        for part in ("checkpoints/c", "output/a"):
            name = f"{tenant}: tag {part.partition('/')[0]}"
            key = f"{job}/{part}"
            add(name, "put_object_tagging", "s3:PutObjectTagging", "ArtifactsBucket", key, Tagging=tags)
    version = {"VersionId": "1"}
    add("read file's version", "get_object", "s3:GetObjectVersion", "DataBucket", "acme/files/f/a.jsonl", **version)
    add("read base model", "get_object", "s3:GetObject", "ModelsBucket", "base/tiny/config.json")
    add("write base model", "put_object", "s3:PutObject", "ModelsBucket", "base/tiny/config.json", Body=b"")
    add("delete base model", "delete_object", "s3:DeleteObject", "ModelsBucket", "base/tiny/config.json")
    add("read market", "get_object", "s3:GetObject", "ModelsBucket", "market/us-east-1/latest.json")
    add("write market", "put_object", "s3:PutObject", "ModelsBucket", "market/us-east-1/1.json", Body=b"")
    stranger = {"Bucket": "strangers-bucket", "Key": "secret.txt"}
    _add("read stranger's object", "s3", "get_object", "s3:GetObject", lambda _: stranger)
    _add("write stranger's object", "s3", "put_object", "s3:PutObject", lambda _: {**stranger, "Body": b""})


def _buckets() -> None:
    def add(name: str, operation: str, action: str, bucket: str, **more: object) -> None:
        _add(name, "s3", operation, action, lambda here: {"Bucket": here.resources[bucket], **more})

    for bucket in ("DataBucket", "ArtifactsBucket"):
        for tenant in ("acme", "globex"):
            add(f"{tenant}: list {bucket}", "list_objects_v2", "s3:ListBucket", bucket, Prefix=f"{tenant}/")
        add(f"list all of {bucket}", "list_objects_v2", "s3:ListBucket", bucket)
    add("list base models", "list_objects_v2", "s3:ListBucket", "ModelsBucket", Prefix="base/tiny/")
    add("list all of ModelsBucket", "list_objects_v2", "s3:ListBucket", "ModelsBucket")
    add("list versions", "list_object_versions", "s3:ListBucketVersions", "DataBucket")
    add("open the bucket", "delete_public_access_block", "s3:PutBucketPublicAccessBlock", "DataBucket")
    add("replace its policy", "put_bucket_policy", "s3:PutBucketPolicy", "DataBucket", Policy="{}")
    add("delete its policy", "delete_bucket_policy", "s3:DeleteBucketPolicy", "DataBucket")
    add("delete the bucket", "delete_bucket", "s3:DeleteBucket", "DataBucket")
    off = {"Status": "Suspended"}
    add(
        "keep no versions", "put_bucket_versioning", "s3:PutBucketVersioning", "DataBucket", VersioningConfiguration=off
    )
    _add("make a bucket", "s3", "create_bucket", "s3:CreateBucket", lambda _: {"Bucket": "made-by-a-role"})
    _add("list buckets", "s3", "list_buckets", "s3:ListAllMyBuckets", lambda _: {})


def _records() -> None:
    def add(name: str, operation: str, action: str, **more: object) -> None:
        made = lambda here: {"TableName": here.resources["Table"], **more}  # noqa: E731
        _add(name, "dynamodb", operation, f"dynamodb:{action}", made)

    for kind in ("AUDIT", "JOB", "KEY", "WEBHOOKS"):
        key = {"pk": {"S": f"{kind}#a"}, "sk": {"S": "a"}}
        add(f"get {kind}", "get_item", "GetItem", Key=key)
        add(f"put {kind}", "put_item", "PutItem", Item=key)
        key = {"pk": {"S": f"{kind}#b"}, "sk": {"S": "b"}}
        add(f"update {kind}", "update_item", "UpdateItem", Key=key)
        add(f"delete {kind}", "delete_item", "DeleteItem", Key=key)
    for kind, action in (("Delete", "DeleteItem"), ("Put", "PutItem")):
        within = [_in_transaction(kind, "JOB"), _in_transaction(kind, "AUDIT")]
        _add(
            *(f"{kind.lower()} AUDIT behind JOB", "dynamodb", "transact_write_items", f"dynamodb:{action}"),
            lambda here, within=within: {"TransactItems": [made(here.resources["Table"]) for made in within]},
        )
    asked = {"KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": {":pk": {"S": "JOB#a"}}}
    add("query", "query", "Query", **asked)
    of_index = {"IndexName": "gsi1", **asked, "KeyConditionExpression": "gsi1pk = :pk"}
    add("query index", "query", "Query", **of_index)
    add("scan", "scan", "Scan")
    add("describe table", "describe_table", "DescribeTable")
    add("delete table", "delete_table", "DeleteTable")
    add("change table", "update_table", "UpdateTable", DeletionProtectionEnabled=False)
    _add(
        *("restore table", "dynamodb", "restore_table_to_point_in_time", "dynamodb:RestoreTableToPointInTime"),
        lambda here: {"SourceTableName": here.resources["Table"], "TargetTableName": "copy"},
    )
    stranger = {"TableName": "strangers-table", "Key": {"pk": {"S": "JOB#b"}, "sk": {"S": "b"}}}
    _add("get of stranger's table", "dynamodb", "get_item", "dynamodb:GetItem", lambda _: stranger)


def _in_transaction(kind: str, record: str) -> Callable[[str], Arguments]:
    key = {"pk": {"S": f"{record}#c"}, "sk": {"S": "c"}}
    return lambda table: {kind: {"TableName": table, "Item" if kind == "Put" else "Key": key}}


def _queues() -> None:
    def add(name: str, queue: str, operation: str, action: str, **more: object) -> None:
        made = lambda here: {"QueueUrl": here.resources[queue], **more}  # noqa: E731
        _add(name, "sqs", operation, f"sqs:{action}", made)

    for queue in ("LaunchQueue", "ArrivalsQueue", "DeliveryQueue", "LaunchDeadLetters", "DeliveryDeadLetters"):
        add(f"send to {queue}", queue, "send_message", "SendMessage", MessageBody="{}", DelaySeconds=900)
        add(f"receive from {queue}", queue, "receive_message", "ReceiveMessage")
        add(f"delete from {queue}", queue, "delete_message", "DeleteMessage", ReceiptHandle="x")
    handle = {"ReceiptHandle": "x", "VisibilityTimeout": 1}
    for queue in ("LaunchQueue", "ArrivalsQueue", "DeliveryQueue"):
        add(f"look at {queue}", queue, "get_queue_attributes", "GetQueueAttributes", AttributeNames=["All"])
        add(f"postpone in {queue}", queue, "change_message_visibility", "ChangeMessageVisibility", **handle)
    add("purge LaunchQueue", "LaunchQueue", "purge_queue", "PurgeQueue")
    add("delete LaunchQueue", "LaunchQueue", "delete_queue", "DeleteQueue")
    attributes = {"VisibilityTimeout": "0"}
    add("change LaunchQueue", "LaunchQueue", "set_queue_attributes", "SetQueueAttributes", Attributes=attributes)


def _topics_and_secrets() -> None:
    for topic in ("Notifications", "AlarmTopic"):
        _add(
            *(f"publish to {topic}", "sns", "publish", "sns:Publish"),
            lambda here, topic=topic: {"TopicArn": here.resources[topic], "Message": "x"},
        )
    subscribed = {"Protocol": "https", "Endpoint": "https://evil.example"}
    _add(
        *("subscribe to Notifications", "sns", "subscribe", "sns:Subscribe"),
        lambda here: {"TopicArn": here.resources["Notifications"], **subscribed},
    )
    _add(
        *("read signing secret", "secretsmanager", "get_secret_value", "secretsmanager:GetSecretValue"),
        lambda here: {"SecretId": here.resources["SigningSecret"]},
    )
    _add(
        *("replace signing secret", "secretsmanager", "put_secret_value", "secretsmanager:PutSecretValue"),
        lambda here: {"SecretId": here.resources["SigningSecret"], "SecretString": "x"},
    )
    for name in ("spotune/local/trackers/acme/wandb", "spotune/local/trackers/globex/wandb", "strangers/secret"):
        _add(
            *(f"read secret {name}", "secretsmanager", "get_secret_value", "secretsmanager:GetSecretValue"),
            lambda _, name=name: {"SecretId": name},
        )
    _add("list secrets", "secretsmanager", "list_secrets", "secretsmanager:ListSecrets", lambda _: {})


def _training() -> None:
    def add(name: str, operation: str, action: str, **arguments: object) -> None:
        _add(name, "sagemaker", operation, f"sagemaker:{action}", lambda _: arguments)

    for name in ("ftjob-ours-1", "ftjob-theirs-1", "ftjob-untagged-1", "strangers-job"):
        add(f"describe {name}", "describe_training_job", "DescribeTrainingJob", TrainingJobName=name)
        add(f"stop {name}", "stop_training_job", "StopTrainingJob", TrainingJobName=name)
        tags = [{"Key": "spotune:stage", "Value": "local"}]
        add(f"tag {name}", "add_tags", "AddTags", ResourceArn=arn("sagemaker", f"training-job/{name}"), Tags=tags)
    add("list training jobs", "list_training_jobs", "ListTrainingJobs")
    for group in ("spotune-local-acme", "strangers-group"):
        about = {"ModelPackageGroupName": group}
        add(f"make {group}", "create_model_package_group", "CreateModelPackageGroup", **about)
        add(f"describe {group}", "describe_model_package_group", "DescribeModelPackageGroup", **about)
        add(f"delete {group}", "delete_model_package_group", "DeleteModelPackageGroup", **about)
        add(f"show in {group}", "create_model_package", "CreateModelPackage", **about)
        package = arn("sagemaker", f"model-package/{group}/1")
        add(f"look at {group}/1", "describe_model_package", "DescribeModelPackage", ModelPackageName=package)
        add(f"change {group}/1", "update_model_package", "UpdateModelPackage", ModelPackageArn=package)
        add(f"delete {group}/1", "delete_model_package", "DeleteModelPackage", ModelPackageName=package)
    add("list model packages", "list_model_packages", "ListModelPackages")


def _market() -> None:
    _add("read prices", "pricing", "get_products", "pricing:GetProducts", lambda _: {"ServiceCode": "AmazonSageMaker"})
    quota = {"ServiceCode": "sagemaker"}
    _add("read quotas", "service-quotas", "list_service_quotas", "servicequotas:ListServiceQuotas", lambda _: quota)
    more = {**quota, "QuotaCode": "L-1", "DesiredValue": 99.0}
    _add(
        *("raise a quota", "service-quotas", "request_service_quota_increase"),
        *("servicequotas:RequestServiceQuotaIncrease", lambda _: more),
    )
    _add("read spot", "ec2", "describe_spot_price_history", "ec2:DescribeSpotPriceHistory", lambda _: {})
    scores = {"InstanceTypes": ["g5.xlarge"], "TargetCapacity": 1}
    _add("read scores", "ec2", "get_spot_placement_scores", "ec2:GetSpotPlacementScores", lambda _: scores)
    machine = {"ImageId": "ami-1", "InstanceType": "p5.48xlarge", "MinCount": 1, "MaxCount": 1}
    _add("run an instance", "ec2", "run_instances", "ec2:RunInstances", lambda _: machine)


def _identity() -> None:
    def add(name: str, operation: str, action: str, made: Callable[[Guarded], Arguments]) -> None:
        _add(name, "iam", operation, f"iam:{action}", made)

    document = "{}"
    add("make a user", "create_user", "CreateUser", lambda _: {"UserName": "evil"})
    add("make an access key", "create_access_key", "CreateAccessKey", lambda _: {"UserName": "evil"})
    add("make a role", "create_role", "CreateRole", lambda _: {"RoleName": "e", "AssumeRolePolicyDocument": document})
    admin = {"PolicyArn": "arn:aws:iam::aws:policy/AdministratorAccess"}
    for role in ("LaunchRole", "TrainingRole"):
        named = lambda here, role=role: {"RoleName": here.resources[role]}  # noqa: E731
        add(f"widen {role}", "attach_role_policy", "AttachRolePolicy", lambda here, n=named: {**n(here), **admin})
        inline = {"PolicyName": "all", "PolicyDocument": document}
        add(f"write into {role}", "put_role_policy", "PutRolePolicy", lambda here, n=named, i=inline: {**n(here), **i})
        add(f"look at {role}", "get_role", "GetRole", named)
        _add(
            *(f"become {role}", "sts", "assume_role", "sts:AssumeRole"),
            lambda here, role=role: {"RoleArn": here.role_arn(role), "RoleSessionName": "evil"},
        )


def _machinery() -> None:
    def named(kind: str, logical: str) -> Callable[[Guarded], Arguments]:
        return lambda here: {kind: here.resources[logical]}

    _add("make keys", "lambda", "invoke", "lambda:InvokeFunction", named("FunctionName", "KeysFunction"))
    _add("read code", "lambda", "get_function", "lambda:GetFunction", named("FunctionName", "LaunchFunction"))
    _add(
        *("replace code", "lambda", "update_function_code", "lambda:UpdateFunctionCode"),
        lambda here: {"FunctionName": here.resources["LaunchFunction"], "ZipFile": b"x"},
    )
    _add(
        "delete the stack", "cloudformation", "delete_stack", "cloudformation:DeleteStack", lambda _: {"StackName": "s"}
    )
    event = {"Source": "evil", "DetailType": "x", "Detail": "{}"}
    _add("send an event", "events", "put_events", "events:PutEvents", lambda _: {"Entries": [event]})
    _add("delete a rule", "events", "delete_rule", "events:DeleteRule", named("Name", "DataLanded"))
    _add("delete alarms", "cloudwatch", "delete_alarms", "cloudwatch:DeleteAlarms", lambda _: {"AlarmNames": ["a"]})
    for namespace in ("/aws/sagemaker/TrainingJobs", "Spotune"):
        metric = {"Namespace": namespace, "MetricData": [{"MetricName": "m", "Value": 1.0}]}
        _add(f"measure {namespace}", "cloudwatch", "put_metric_data", "cloudwatch:PutMetricData", lambda _, m=metric: m)
    _add("make a key", "kms", "create_key", "kms:CreateKey", lambda _: {})
    keyed = lambda here: {"KeyId": here.key}  # noqa: E731
    plain = {"KeySpec": "AES_256"}
    _add("use the key", "kms", "generate_data_key", "kms:GenerateDataKey", lambda here: {**keyed(here), **plain})
    kept = {"Plaintext": b"x"}
    _add("encrypt by the key", "kms", "encrypt", "kms:Encrypt", lambda here: {**keyed(here), **kept})
    _add("decrypt by the key", "kms", "decrypt", "kms:Decrypt", lambda here: {**keyed(here), "CiphertextBlob": b"x"})
    granted = {"GranteePrincipal": f"arn:aws:iam::{ACCOUNT}:root", "Operations": ["Decrypt"]}
    _add("hand the key on", "kms", "create_grant", "kms:CreateGrant", lambda here: {**keyed(here), **granted})
    _add("disable the key", "kms", "disable_key", "kms:DisableKey", keyed)
    _add(
        *("delete the key", "kms", "schedule_key_deletion", "kms:ScheduleKeyDeletion"),
        lambda here: {**keyed(here), "PendingWindowInDays": 7},
    )
    _add("widen the key", "kms", "put_key_policy", "kms:PutKeyPolicy", lambda here: {**keyed(here), "Policy": "{}"})
    repository = {"repositoryName": "spotune-training"}
    _add("sign in to registry", "ecr", "get_authorization_token", "ecr:GetAuthorizationToken", lambda _: {})
    for name in ("spotune-training", "strangers-image"):
        asked = {"repositoryName": name, "imageIds": [{"imageTag": "1"}]}
        _add(f"pull {name}", "ecr", "batch_get_image", "ecr:BatchGetImage", lambda _, a=asked: a)
    _add("replace the image", "ecr", "put_image", "ecr:PutImage", lambda _: {**repository, "imageManifest": "{}"})
    _add("delete images", "ecr", "delete_repository", "ecr:DeleteRepository", lambda _: {**repository, "force": True})


def _logs() -> None:
    def add(name: str, operation: str, action: str, made: Callable[[Guarded], Arguments]) -> None:
        _add(name, "logs", operation, f"logs:{action}", made)

    for group in ("ApiLogs", "LaunchLogs", "KeysLogs"):
        stream = lambda here, g=group: {"logGroupName": here.resources[g], "logStreamName": "s"}  # noqa: E731
        lines = {"logEvents": [{"timestamp": 1, "message": "x"}]}
        add(f"begin {group}", "create_log_stream", "CreateLogStream", stream)
        add(f"write {group}", "put_log_events", "PutLogEvents", lambda here, s=stream, e=lines: {**s(here), **e})
        named = lambda here, g=group: {"logGroupName": here.resources[g]}  # noqa: E731
        add(f"read {group}", "filter_log_events", "FilterLogEvents", named)
        add(f"delete {group}", "delete_log_group", "DeleteLogGroup", named)
    training = {"logGroupName": "/aws/sagemaker/TrainingJobs"}
    add("begin training's logs", "create_log_group", "CreateLogGroup", lambda _: training)
    add("look at training logs", "describe_log_streams", "DescribeLogStreams", lambda _: training)
    for whose, job in (("a", "ftjob-a-1"), ("a stranger's", "strangers-job")):
        stream = {**training, "logStreamName": f"{job}/algo-1"}
        add(f"begin {whose} training log", "create_log_stream", "CreateLogStream", lambda _, s=stream: s)
        written = {**stream, "logEvents": [{"timestamp": 1, "message": "x"}]}
        add(f"write {whose} training log", "put_log_events", "PutLogEvents", lambda _, w=written: w)


for _fill in (
    *(_objects, _buckets, _records, _queues, _topics_and_secrets, _training, _market, _identity, _machinery, _logs),
):
    _fill()
