"""Calls that only optional grants allow: those for further regions, source buckets, a shared mirror and an edge."""

from __future__ import annotations

from collections.abc import Callable

from spotune.local.state import ACCOUNT, REGION
from tests.guarded import Guarded
from tests.infra.calls import Arguments, Call, arn

AWAY = "eu-west-1"
"""A further region of the installation."""
ELSEWHERE = "ap-south-1"
"""A region that it does not name, in which somebody has made buckets with the names that it would have there."""
SOURCES, MIRROR = "landing-zone", "shared-models"

OPTIONAL: dict[str, Call] = {}


def bucket_elsewhere(what: str) -> str:
    """The name that region.yaml would give it."""
    return f"spotune-local-{ACCOUNT}-{ELSEWHERE}-{what}"


def _add(
    name: str,
    service: str,
    operation: str,
    action: str,
    arguments: Callable[[Guarded], Arguments],
    region: str = REGION,
) -> None:
    assert name not in OPTIONAL, name
    OPTIONAL[name] = Call(service, operation, action, arguments, region)


def _of_bucket(bucket: str, region: str = REGION) -> Callable[..., None]:
    """Adds calls about one bucket, by its name or that of the region's stack."""

    def add(name: str, operation: str, action: str, **more: object) -> None:
        arguments = lambda here: {"Bucket": here.resources.get(bucket, bucket), **more}  # noqa: E731
        _add(name, "s3", operation, f"s3:{action}", arguments, region)

    return add


def _sources() -> None:
    add = _of_bucket(SOURCES)
    add("read source", "get_object", "GetObject", Key="acme/a.jsonl")
    add("read source's version", "get_object", "GetObjectVersion", Key="acme/a.jsonl", VersionId="1")
    add("list source", "list_objects_v2", "ListBucket")
    add("list source's versions", "list_object_versions", "ListBucketVersions")
    add("write into source", "put_object", "PutObject", Key="acme/b.jsonl", Body=b"")
    add("delete from source", "delete_object", "DeleteObject", Key="acme/a.jsonl")
    add("tag in source", "put_object_tagging", "PutObjectTagging", Key="acme/a.jsonl", Tagging={"TagSet": []})
    off = {"Status": "Suspended"}
    add("keep no versions of source", "put_bucket_versioning", "PutBucketVersioning", VersioningConfiguration=off)


def _mirror() -> None:
    add = _of_bucket(MIRROR)
    add("read mirror", "get_object", "GetObject", Key="base/tiny/config.json")
    add("read beside mirror's models", "get_object", "GetObject", Key="other/secret.txt")
    add("list mirror's models", "list_objects_v2", "ListBucket", Prefix="base/tiny/")
    add("list all of mirror", "list_objects_v2", "ListBucket")
    add("write mirror", "put_object", "PutObject", Key="base/tiny/config.json", Body=b"")
    add("delete from mirror", "delete_object", "DeleteObject", Key="base/tiny/config.json")


def _edge() -> None:
    secret = lambda here: {"SecretId": here.resources["EdgeSecret"]}  # noqa: E731
    _add("read edge secret", "secretsmanager", "get_secret_value", "secretsmanager:GetSecretValue", secret)
    put = lambda here: {**secret(here), "SecretString": "x"}  # noqa: E731
    _add("replace edge secret", "secretsmanager", "put_secret_value", "secretsmanager:PutSecretValue", put)


def _further_objects() -> None:
    data, jobs = _of_bucket("FurtherDataBucket", AWAY), _of_bucket("FurtherJobsBucket", AWAY)
    tags = {"TagSet": [{"Key": "spotune-job", "Value": "ended"}]}
    for tenant in ("acme", "globex"):
        copy, job = f"{tenant}/copies/f/a.jsonl", f"{tenant}/jobs/ftjob-a"
        data(f"{tenant}: read copy", "get_object", "GetObject", Key=copy)
        data(f"{tenant}: read beside copies", "get_object", "GetObject", Key=f"{tenant}/files/f/a.jsonl")
        data(f"{tenant}: write copy", "put_object", "PutObject", Key=f"{tenant}/copies/f/b.jsonl", Body=b"")
        data(f"{tenant}: delete copy", "delete_object", "DeleteObject", Key=f"{tenant}/copies/f/gone")
        data(f"{tenant}: list copies", "list_objects_v2", "ListBucket", Prefix=f"{tenant}/copies/")
        jobs(f"{tenant}: list further jobs", "list_objects_v2", "ListBucket", Prefix=f"{tenant}/jobs/")
        jobs(f"{tenant}: read further job", "get_object", "GetObject", Key=f"{job}/output/a")
        for what, key in (("config", "config/1/c"), ("inputs", "inputs.json"), ("output", "output/b")):
            jobs(f"{tenant}: write further {what}", "put_object", "PutObject", Key=f"{job}/{key}", Body=b"")
        jobs(f"{tenant}: write further checkpoint", "put_object", "PutObject", Key=f"{job}/checkpoints/c", Body=b"")
        for what, key in (("checkpoint", "checkpoints/gone"), ("output", "output/gone")):
            jobs(f"{tenant}: delete further {what}", "delete_object", "DeleteObject", Key=f"{job}/{key}")
            tagged = {"Key": f"{job}/{key}", "Tagging": tags}
            jobs(f"{tenant}: tag further {what}", "put_object_tagging", "PutObjectTagging", **tagged)
        part = {"Key": copy, "UploadId": "x"}
        data(f"{tenant}: list parts of copy", "list_parts", "ListMultipartUploadParts", **part)
        for what, key in (("checkpoint", "checkpoints/c"), ("config", "config/1/c"), ("output", "output/b")):
            part = {"Key": f"{job}/{key}", "UploadId": "x"}
            jobs(f"{tenant}: abort further {what}", "abort_multipart_upload", "AbortMultipartUpload", **part)


def _further_buckets() -> None:
    for what in ("Data", "Jobs", "Models"):
        add = _of_bucket(f"Further{what}Bucket", AWAY)
        add(f"list all of further {what}", "list_objects_v2", "ListBucket")
        add(f"list uploads to further {what}", "list_multipart_uploads", "ListBucketMultipartUploads")
        add(f"open further {what}", "delete_public_access_block", "PutBucketPublicAccessBlock")
        add(f"delete further {what}", "delete_bucket", "DeleteBucket")
    models = _of_bucket("FurtherModelsBucket", AWAY)
    base = {"Key": "base/tiny/config.json"}
    models("read further base model", "get_object", "GetObject", **base)
    models("write further base model", "put_object", "PutObject", Key="base/tiny/new.json", Body=b"")
    models("delete further base model", "delete_object", "DeleteObject", Key="base/tiny/gone.json")
    models("list further base models", "list_objects_v2", "ListBucket", Prefix="base/tiny/")
    models("write further market", "put_object", "PutObject", Key="market/1.json", Body=b"")
    logs = _of_bucket("FurtherAccessLogsBucket", AWAY)
    logs("read further access log", "get_object", "GetObject", Key="data/a")


def _elsewhere() -> None:
    data, jobs, models = (_of_bucket(bucket_elsewhere(what), ELSEWHERE) for what in ("data", "jobs", "models"))
    data("read copy elsewhere", "get_object", "GetObject", Key="acme/copies/f/a.jsonl")
    data("write copy elsewhere", "put_object", "PutObject", Key="acme/copies/f/b.jsonl", Body=b"")
    data("delete copy elsewhere", "delete_object", "DeleteObject", Key="acme/copies/f/a.jsonl")
    data("list copies elsewhere", "list_objects_v2", "ListBucket", Prefix="acme/copies/")
    data("list uploads elsewhere", "list_multipart_uploads", "ListBucketMultipartUploads")
    jobs("write config elsewhere", "put_object", "PutObject", Key="acme/jobs/ftjob-a/config/1/c", Body=b"")
    jobs("write checkpoint elsewhere", "put_object", "PutObject", Key="acme/jobs/ftjob-a/checkpoints/c", Body=b"")
    jobs("delete checkpoint elsewhere", "delete_object", "DeleteObject", Key="acme/jobs/ftjob-a/checkpoints/c")
    jobs("read job elsewhere", "get_object", "GetObject", Key="acme/jobs/ftjob-a/output/a")
    models("read base model elsewhere", "get_object", "GetObject", Key="base/tiny/config.json")


def _further_training() -> None:
    for region, where in ((AWAY, "away"), (ELSEWHERE, "elsewhere")):

        def add(name: str, operation: str, action: str, region: str = region, **arguments: object) -> None:
            _add(name, "sagemaker", operation, f"sagemaker:{action}", lambda _: arguments, region)

        for job in ("ftjob-ours-1", "ftjob-theirs-1", "ftjob-untagged-1", "strangers-job"):
            add(f"describe {job} {where}", "describe_training_job", "DescribeTrainingJob", TrainingJobName=job)
            add(f"stop {job} {where}", "stop_training_job", "StopTrainingJob", TrainingJobName=job)
            named = {"ResourceArn": arn("sagemaker", f"training-job/{job}", region)}
            add(f"tag {job} {where}", "add_tags", "AddTags", **named, Tags=[{"Key": "spotune:stage", "Value": "local"}])
        group = {"ModelPackageGroupName": "spotune-local-acme"}
        add(f"make group {where}", "create_model_package_group", "CreateModelPackageGroup", **group)
        image = {"repositoryName": "spotune-training", "imageIds": [{"imageTag": "1"}]}
        _add(f"pull {where}", "ecr", "batch_get_image", "ecr:BatchGetImage", lambda _, image=image: image, region)
        _logs(region, where)
    strange = {"repositoryName": "strangers-image", "imageIds": [{"imageTag": "1"}]}
    _add("pull stranger's away", "ecr", "batch_get_image", "ecr:BatchGetImage", lambda _: strange, AWAY)


def _logs(region: str, where: str) -> None:
    def add(name: str, operation: str, action: str, **arguments: object) -> None:
        _add(f"{name} {where}", "logs", operation, f"logs:{action}", lambda _: arguments, region)

    group = {"logGroupName": "/aws/sagemaker/TrainingJobs"}
    stream = {**group, "logStreamName": "ftjob-a-1/algo-1"}
    add("begin training's logs", "create_log_group", "CreateLogGroup", **group)
    add("begin a training log", "create_log_stream", "CreateLogStream", **stream)
    add("look at training logs", "describe_log_streams", "DescribeLogStreams", **group)
    line = {"logEvents": [{"timestamp": 1, "message": "x"}]}
    add("write a training log", "put_log_events", "PutLogEvents", **stream, **line)
    add("read training logs", "filter_log_events", "FilterLogEvents", **group)


def _events() -> None:
    bus = arn("events", "event-bus/default")
    for name, region, named in (
        ("tell home", AWAY, {"EventBusName": bus}),
        ("tell home by another bus", AWAY, {"EventBusName": f"{bus}-not"}),
        ("tell away", AWAY, {}),
        ("tell elsewhere", ELSEWHERE, {}),
    ):
        event = {"Source": "x", "DetailType": "x", "Detail": "{}", **named}
        _add(name, "events", "put_events", "events:PutEvents", lambda _, e=event: {"Entries": [e]}, region)
    rule = lambda here: {"Name": here.resources["FurtherForwardStateChanges"].rpartition("|")[2]}  # noqa: E731
    _add("stop the forwarding", "events", "disable_rule", "events:DisableRule", rule, AWAY)


for _fill in (*(_sources, _mirror, _edge, _further_objects, _further_buckets, _elsewhere, _further_training, _events),):
    _fill()
