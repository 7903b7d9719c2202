"""Puts `infra/template.yaml` into the emulator through CloudFormation, as a deployment to AWS would."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from spotune.contracts.errors import Unavailable
from spotune.local.state import ACCESS_KEY, EVENT_SOURCE, REGION

STACK = "spotune"
CODE_BUCKET = "spotune-code"
TENANT = "local"
MONTHLY_LIMIT_USD = 500
DEFAULT_BUDGET_USD = 25
REQUESTS_PER_MINUTE = 6000
"""Nobody shares this machine's API: ten times the cloud's limit."""
TRAINING_IMAGE = "spotune-training:embedded"
WEBHOOK_NETWORKS = "127.0.0.0/8"
"""A receiver on this machine can be tried, and no other one that is not public."""

_DEADLINE_SECONDS = 60.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Deployment:
    """What is to be deployed.

    Attributes:
        bundle: the Lambda bundle; its name holds its fingerprint.
        template: the SAM template.
    """

    bundle: Path
    template: Path
    advisor_url: str
    """Where the double serves the Spot Instance Advisor's feed."""
    others: Mapping[str, str] = field(default_factory=dict)
    """Parameters that differ from this machine's usual ones."""

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the template, its parameters and the bundle."""
        text = json.dumps([self.template.read_text(), self.parameters])
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def parameters(self) -> dict[str, str]:
        """The template's parameters for this machine."""
        return {
            "Stage": "local",
            "CodeBucket": CODE_BUCKET,
            "CodeKey": self.bundle.name,
            "PythonRuntime": f"python{sys.version_info.major}.{sys.version_info.minor}",
            "Architecture": "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64",
            "EventSource": EVENT_SOURCE,
            "AdvisorUrl": self.advisor_url,
            "TrainingImage": TRAINING_IMAGE,
            "MonthlyLimitUsd": str(MONTHLY_LIMIT_USD),
            "DefaultBudgetUsd": str(DEFAULT_BUDGET_USD),
            "RequestsPerMinute": str(REQUESTS_PER_MINUTE),
            "WebhookNetworks": WEBHOOK_NETWORKS,
            # Trackers' servers are reached from this machine as whoever works on it reaches them.
            "NetworkIsolation": "false",
            "LogRetentionDays": "1",
            "DeletionProtection": "false",
            **self.others,
        }


def deploy(deployment: Deployment, emulator_url: str) -> dict[str, str]:
    """Create the stack or bring it up to date.

    Returns:
        The template's outputs.

    Raises:
        Unavailable: CloudFormation did not come to an end, or ended badly; the message holds its first reason.
    """
    stacks = client("cloudformation", emulator_url)
    status = _status(stacks)
    if status is not None and not _is_complete(status):
        # Only a first deployment that was cut off is saved in such a state, and it holds nothing yet.
        stacks.delete_stack(StackName=STACK)
        _await_end(stacks)
        status = None
    _upload((deployment.bundle, deployment.template), emulator_url)
    request = {
        "StackName": STACK,
        # By its address, as deployments to AWS send it: a request takes 51,200 bytes of template, an object a megabyte.
        "TemplateURL": f"{emulator_url}/{CODE_BUCKET}/{deployment.template.name}",
        "Parameters": [{"ParameterKey": k, "ParameterValue": v} for k, v in deployment.parameters.items()],
        "Capabilities": ["CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
    }
    if status is None:
        stacks.create_stack(**request)
    else:
        _update(stacks, request)
    return _await_outputs(stacks)


def deployed_outputs(emulator_url: str) -> dict[str, str] | None:
    """The outputs of the stack that is deployed; None where there is none that is complete."""
    stacks = client("cloudformation", emulator_url)
    status = _status(stacks)
    return _outputs(stacks) if status is not None and _is_complete(status) else None


def issue_key(keys_function: str, emulator_url: str) -> str:
    """An API key for this machine's tenant, made by the deployed function.

    Raises:
        Unavailable: the function failed.
    """
    answer = client("lambda", emulator_url).invoke(
        FunctionName=keys_function, Payload=json.dumps({"tenant": TENANT, "name": "embedded mode"})
    )
    body = json.loads(answer["Payload"].read())
    if "FunctionError" in answer or "key" not in body:
        raise Unavailable(
            f"The function that makes API keys failed: {json.dumps(body)[:500]}",
            code="key_not_issued",
            remedy="See logs/emulator.log in the stack's folder.",
        )
    return str(body["key"])


def refresh_market(function: str, emulator_url: str) -> None:
    """Have the deployed function fetch the market once; its schedule would come hours later. Does not wait for it."""
    client("lambda", emulator_url).invoke(FunctionName=function, InvocationType="Event", Payload="{}")


def client(service: str, endpoint: str) -> Any:
    """A boto3 client that talks to this endpoint with the emulator's credentials, whatever the environment says."""
    return boto3.Session(aws_access_key_id=ACCESS_KEY, aws_secret_access_key=ACCESS_KEY, region_name=REGION).client(
        service,
        endpoint_url=endpoint,
        config=Config(retries={"mode": "standard", "max_attempts": 3}, proxies={}, read_timeout=120),
    )


def _upload(files: tuple[Path, ...], emulator_url: str) -> None:
    """Put the files into the code bucket, and whatever else is there away."""
    objects = client("s3", emulator_url)
    objects.create_bucket(Bucket=CODE_BUCKET)
    held = [entry["Key"] for entry in objects.list_objects_v2(Bucket=CODE_BUCKET).get("Contents", ())]
    for file in files:
        objects.put_object(Bucket=CODE_BUCKET, Key=file.name, Body=file.read_bytes())
    for old in held:
        if old not in {file.name for file in files}:
            objects.delete_object(Bucket=CODE_BUCKET, Key=old)


def _update(stacks: Any, request: dict[str, Any]) -> None:
    try:
        stacks.update_stack(**request)
    except ClientError as error:
        if "No updates are to be performed" not in str(error):
            raise


def _await_outputs(stacks: Any) -> dict[str, str]:
    status = _await_end(stacks)
    if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        raise Unavailable(
            f"CloudFormation ended in {status}: {_first_failure(stacks)}",
            code="deployment_failed",
            remedy="See logs/emulator.log in the stack's folder; `spotune reset` starts from nothing.",
        )
    return _outputs(stacks)


def _outputs(stacks: Any) -> dict[str, str]:
    (stack,) = stacks.describe_stacks(StackName=STACK)["Stacks"]
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


def _await_end(stacks: Any) -> str | None:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while (status := _status(stacks)) is not None and status.endswith("_IN_PROGRESS"):
        if time.monotonic() > deadline:
            break
        time.sleep(_POLL_SECONDS)
    return status


def _status(stacks: Any) -> str | None:
    try:
        (stack,) = stacks.describe_stacks(StackName=STACK)["Stacks"]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise
    status = str(stack["StackStatus"])
    return None if status == "DELETE_COMPLETE" else status


def _is_complete(status: str) -> bool:
    return status in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE")


def _first_failure(stacks: Any) -> str:
    events = stacks.describe_stack_events(StackName=STACK)["StackEvents"]
    reasons = [
        f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', '')}"
        for event in events
        if event["ResourceStatus"].endswith("_FAILED")
    ]
    return reasons[-1] if reasons else "no reason given"
