"""Puts `infra/template.yaml` into the emulator through CloudFormation, as a deployment to AWS does."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from spotune.deploy import keys
from spotune.deploy.account import Account, call
from spotune.deploy.settings import Settings, parameters
from spotune.deploy.stacks import Stack
from spotune.local.state import ACCESS_KEY, EVENT_SOURCE, REGION

STACK = "spotune"
CODE_BUCKET = "spotune-code"
TENANT = "local"
TRAINING_IMAGE = "spotune-training:embedded"

_CONFIG = Config(retries={"mode": "standard", "max_attempts": 3}, proxies={}, read_timeout=120)
_DEADLINE_SECONDS = 60.0
_POLL_SECONDS = 0.05

_SETTINGS = {
    "stage": "local",
    "region": REGION,
    "first_tenant": TENANT,
    "python": f"{sys.version_info.major}.{sys.version_info.minor}",
    "architecture": "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64",
    # Nobody shares this machine's API: ten times the cloud's limit.
    "limits": {"requests_per_minute": 6000},
    # A receiver on this machine can be tried, and no other one that is not public.
    "webhook_networks": ("127.0.0.0/8",),
    # Trackers' servers are reached from this machine as whoever works on it reaches them.
    "network_isolation": False,
    "log_retention_days": 1,
    "deletion_protection": False,
}
"""What this machine's installation has unlike another's."""


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
        return parameters(Settings.model_validate(_SETTINGS)) | {
            "CodeBucket": CODE_BUCKET,
            "CodeKey": self.bundle.name,
            "EventSource": EVENT_SOURCE,
            "AdvisorUrl": self.advisor_url,
            "TrainingImage": TRAINING_IMAGE,
            **self.others,
        }


def deploy(deployment: Deployment, emulator_url: str) -> dict[str, str]:
    """Create the stack or bring it up to date.

    Returns:
        The template's outputs.

    Raises:
        Unavailable: CloudFormation did not come to an end, or ended badly; the message holds its first reason.
    """
    stack = _stack(emulator_url)
    if (stack.status() or "").endswith("_IN_PROGRESS"):
        # Nobody is at work in an emulator that has just started: a deployment was cut off, and will not go on.
        stack.delete(_silent)
    stack.ready(_silent)
    _upload((deployment.bundle, deployment.template), emulator_url)
    template = {"TemplateURL": f"{emulator_url}/{CODE_BUCKET}/{deployment.template.name}"}
    proposal = stack.propose(template, deployment.parameters, "local")
    if proposal is not None:
        stack.carry_out(proposal, _silent)
    return stack.outputs()


def deployed_outputs(emulator_url: str) -> dict[str, str] | None:
    """The outputs of the stack that is deployed; None where there is none that is complete."""
    stack = _stack(emulator_url)
    complete = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE")
    return stack.outputs() if stack.status() in complete else None


def issue_key(outputs: dict[str, str], emulator_url: str) -> str:
    """An API key for this machine's tenant, made by the deployed function.

    Raises:
        Unavailable: the function failed.
    """
    return keys.issue(_account(emulator_url), outputs, TENANT, "embedded mode")


def refresh_market(outputs: dict[str, str], emulator_url: str) -> None:
    """Have the deployed function fetch the market once; its schedule would come hours later. Does not wait for it."""
    keys.refresh_market(_account(emulator_url), outputs)


def client(service: str, endpoint: str) -> Any:
    """A boto3 client that talks to this endpoint with the emulator's credentials, whatever the environment says."""
    return _account(endpoint).client(service)


def _account(endpoint: str) -> Account:
    session = boto3.Session(aws_access_key_id=ACCESS_KEY, aws_secret_access_key=ACCESS_KEY, region_name=REGION)
    return Account(REGION, session, _CONFIG, endpoint)


def _stack(emulator_url: str) -> Stack:
    return Stack(client("cloudformation", emulator_url), STACK, _POLL_SECONDS, _DEADLINE_SECONDS)


def _upload(files: tuple[Path, ...], emulator_url: str) -> None:
    """Put the files into the code bucket, and whatever else is there away."""
    objects = client("s3", emulator_url)
    call(objects.create_bucket, Bucket=CODE_BUCKET)
    held = [entry["Key"] for entry in call(objects.list_objects_v2, Bucket=CODE_BUCKET).get("Contents", ())]
    for file in files:
        call(objects.put_object, Bucket=CODE_BUCKET, Key=file.name, Body=file.read_bytes())
    for old in held:
        if old not in {file.name for file in files}:
            call(objects.delete_object, Bucket=CODE_BUCKET, Key=old)


def _silent(_: str) -> None:
    """Nobody waits long enough to be told."""
