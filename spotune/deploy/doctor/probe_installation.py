"""Looks at what is deployed: the stack, its alarms and who hears them, models, network, key, the API. Only reads."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Sequence

from spotune.aws.clients import client
from spotune.contracts.layout import MODEL_MARKER, base_model_uri, split_uri
from spotune.deploy import stacks
from spotune.deploy.doctor.probing import look, paged
from spotune.deploy.doctor.seen import Alarm, Answer, BaseModel, Key, Network, Stack, Subnet, Subscription, Unseen

_COMMIT = re.compile("[0-9a-f]{40}")
_SECONDS = 15
_UNCONFIRMED = frozenset({"PendingConfirmation", "Deleted"})


def stack(region: str, name: str) -> Stack | None:
    """The stack of this name; None where there is none."""
    found = stacks.Stack(client("cloudformation", region), name).describe()
    if found is None:
        return None
    return Stack(
        name=name,
        status=str(found["StackStatus"]),
        reason=str(found.get("StackStatusReason", "")),
        parameters=stacks.parameters_of(found),
        outputs=stacks.outputs_of(found),
    )


def roles(region: str, name: str) -> dict[str, str]:
    """ARNs of the stack's roles, by their names in the template."""
    iam = client("iam", region)
    found = _resources(region, name, "AWS::IAM::Role")
    return {logical: str(iam.get_role(RoleName=role)["Role"]["Arn"]) for role, logical in found.items()}


def alarms(region: str, name: str) -> tuple[Alarm, ...]:
    """The stack's alarms."""
    ours = _resources(region, name, "AWS::CloudWatch::Alarm")
    return tuple(
        Alarm(
            name=ours[one["AlarmName"]],
            state=str(one["StateValue"]),
            reason=str(one.get("StateReason", "")),
            actions=bool(one.get("ActionsEnabled")) and bool(one.get("AlarmActions")),
        )
        for one in paged(client("cloudwatch", region), "describe_alarms", "MetricAlarms")
        if one["AlarmName"] in ours
    )


def subscriptions(region: str, topic: str) -> tuple[Subscription, ...]:
    """Who is told by this topic."""
    listed = paged(client("sns", region), "list_subscriptions_by_topic", "Subscriptions", TopicArn=topic)
    return tuple(
        Subscription(one["Protocol"], one["Endpoint"], one["SubscriptionArn"] not in _UNCONFIRMED) for one in listed
    )


def base_models(region: str, bucket: str) -> tuple[BaseModel, ...]:
    """The base models in a bucket, by name."""
    _, top = split_uri(base_model_uri(bucket, ""))
    top = top.rstrip("/") + "/"
    listed = paged(client("s3", region), "list_objects_v2", "Contents", Bucket=bucket, Prefix=top)
    return models_of((one["Key"].removeprefix(top), int(one["Size"])) for one in listed)


def models_of(objects: Iterable[tuple[str, int]]) -> tuple[BaseModel, ...]:
    """Models out of the keys and sizes below the models' folder. Where no marker lies, a name is `owner/model`."""
    held = dict(objects)
    marked = {key.rpartition("/")[0] for key in held if key.rpartition("/")[2] == MODEL_MARKER}
    # A commit's own marker is the first to come and the last to go: jobs look for the model's.
    finished = {folder for folder in marked if not _COMMIT.fullmatch(folder.rpartition("/")[2])}
    sizes: dict[str, list[int]] = defaultdict(list)
    for key, size in held.items():
        folders = [key[:at] for at, letter in enumerate(key) if letter == "/"]
        name = next((folder for folder in folders if folder in finished), "/".join(key.split("/")[:-1][:2]))
        sizes[name].append(size)
    return tuple(BaseModel(name, len(kept), sum(kept), name in finished) for name, kept in sorted(sizes.items()))


def network(region: str, subnets: Sequence[str], groups: Sequence[str]) -> Network:
    """Subnets, security groups and the endpoints of their VPCs, whichever of them there are."""
    ec2 = client("ec2", region)
    found = paged(ec2, "describe_subnets", "Subnets", Filters=_filter("subnet-id", subnets))
    kept = tuple(Subnet(one["SubnetId"], one["VpcId"], one.get("AvailabilityZone", "")) for one in found)
    listed = paged(ec2, "describe_security_groups", "SecurityGroups", Filters=_filter("group-id", groups))
    known = {one["GroupId"]: str(one["VpcId"]) for one in listed if one["GroupId"] in groups}
    vpcs = sorted({one.vpc for one in kept})
    endpoints = paged(ec2, "describe_vpc_endpoints", "VpcEndpoints", Filters=_filter("vpc-id", vpcs)) if vpcs else ()
    return Network(kept, known, frozenset(one["ServiceName"].rpartition(".")[2] for one in endpoints))


def key(region: str, arn: str) -> Key:
    """The KMS key of this ARN."""
    keys = client("kms", region)
    found = keys.describe_key(KeyId=arn)["KeyMetadata"]
    rotation = look(lambda: keys.get_key_rotation_status(KeyId=arn))
    rotates = None if isinstance(rotation, Unseen) else bool(rotation["KeyRotationEnabled"])
    return Key(str(found["Arn"]), str(found["KeyState"]), rotates)


def answer(url: str) -> Answer:
    """What the API says where its document lies, which needs no key."""
    address = f"{url.rstrip('/')}/openapi.json"
    try:
        with urllib.request.urlopen(address, timeout=_SECONDS) as stream:  # noqa: S310 the stack's own output
            return Answer(stream.status)
    except urllib.error.HTTPError as error:
        return Answer(error.code, str(error.reason))
    except (OSError, ValueError) as error:
        return Answer(0, str(error))


def _resources(region: str, stack: str, kind: str) -> dict[str, str]:
    """Names in the template of a stack's resources of one type, by their own names."""
    listed = stacks.Stack(client("cloudformation", region), stack).resources()
    return {physical: logical for logical, sort, physical in listed if sort == kind}


def _filter(name: str, values: Sequence[str]) -> list[dict[str, object]]:
    return [{"Name": name, "Values": list(values)}]
