"""What AWS asks KMS for, as the caller, where an action touches what lies encrypted with the installation's own key.

By each service's documentation of encryption at rest. Uploads in parts want Decrypt beside GenerateDataKey, and are not
told from others here. ministack keeps no key with a bucket, a table or a topic: whatever a stack with a `KmsKeyArn` has
made counts as encrypted with it, which tests/infra/test_template.py holds the template to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_READ = ("kms:Decrypt",)
_WRITE = ("kms:GenerateDataKey",)

ASKED: Mapping[str, tuple[str, ...]] = {
    "s3:GetObject": _READ,
    "s3:GetObjectVersion": _READ,
    "s3:PutObject": _WRITE,
    # A table has one data key, made with it: a caller's request has it decrypted, whatever it does.
    **{f"dynamodb:{verb}": _READ for verb in ("DeleteItem", "GetItem", "PutItem", "Query", "UpdateItem")},
    "sqs:ReceiveMessage": _READ,
    "sqs:SendMessage": _WRITE + _READ,
    "sns:Publish": _WRITE + _READ,
    "secretsmanager:GetSecretValue": _READ,
}
"""KMS's actions by those that need them."""


@dataclass(frozen=True)
class KeyUse:
    """One more thing that a policy has to allow. `context` holds condition keys."""

    action: str
    key: str
    context: Mapping[str, str]


def uses_of_key(action: str, resource: str, region: str, stacks: Iterable[Mapping[str, Any]]) -> Iterator[KeyUse]:
    """What has to be allowed beside an action on a resource.

    Args:
        resource: its ARN.
        region: that the request is signed for.
        stacks: ministack's own documents of them.
    """
    asked = ASKED.get(action, ())
    key = _key_of(resource, stacks) if asked else ""
    if key:
        via = {"kms:ViaService": f"{action.partition(':')[0]}.{region}.amazonaws.com"}
        yield from (KeyUse(one, key, via) for one in asked)


def _key_of(resource: str, stacks: Iterable[Mapping[str, Any]]) -> str:
    """The key of the stack that has made the resource; empty where it has none, or none has."""
    name = _name(resource)
    for stack in stacks:
        parameters = {one["ParameterKey"]: one.get("ParameterValue", "") for one in stack.get("Parameters", ())}
        key = str(parameters.get("KmsKeyArn", ""))
        if key and any(_name(one.get("PhysicalResourceId", "")) == name for one in stack["_resources"].values()):
            return key
    return ""


def _name(resource: str) -> str:
    """Of an ARN, a queue's address or a plain name: what ministack calls it by, without an object or an index in it."""
    if resource.startswith("http"):
        return resource.rpartition("/")[2]
    last = resource.rpartition(":")[2]
    return last.removeprefix("table/").partition("/")[0]
