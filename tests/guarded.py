"""The very template in an emulator that checks policies, with the double beside it, and credentials of each role.

No function runs here: the bundle is empty. What the functions do under these roles is tested in tests/embedded.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from spotune.deploy.stacks import Stack
from spotune.local import emulator
from spotune.local.deployment import Deployment, client, deploy
from spotune.local.double.server import DoubleServer
from spotune.local.double.settings import Settings, Timing
from spotune.local.guard import ASSUME_PATH, CHECK_PATH
from spotune.local.stack import TEMPLATE
from spotune.local.state import ACCESS_KEY, ACCOUNT, REGION, aws_environment
from tests.emulator import wait_until_up
from tests.ports import free_port

PARAMETERS = {
    "Tenants": "acme,globex",
    "NetworkIsolation": "true",
    "InstanceTypes": "ml.g5.xlarge,ml.g5.2xlarge,ml.p3.2xlarge,ml.p3.8xlarge",
    "MaxRuntimeSeconds": "7200",
    "Subnets": "subnet-0a,subnet-0b",
    "SecurityGroups": "sg-0a",
    "DeletionProtection": "false",
}
REGION_TEMPLATE = TEMPLATE.with_name("region.yaml")
_DOUBLED = frozenset({"sagemaker", "pricing", "service-quotas", "ec2"})
_CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 2}, proxies={}, read_timeout=120)


@dataclass(frozen=True)
class Guarded:
    """Where the emulator and the double answer, what was deployed, and each role by its logical name."""

    url: str
    double_url: str
    outputs: Mapping[str, str]
    resources: Mapping[str, str]
    """Physical ids by logical ones."""
    key: str
    """ARN of our own key."""

    def role_arn(self, role: str) -> str:
        """The ARN of a role of the template."""
        found: str = self.root("iam").get_role(RoleName=self.resources[role])["Role"]["Arn"]
        return found

    def root(self, service: str, region: str = REGION) -> Any:
        """A client that may do everything."""
        return self._client(service, region, ACCESS_KEY, ACCESS_KEY)

    def client(self, role: str, service: str, region: str = REGION) -> Any:
        """A client of what runs under this role."""
        return self._client(service, region, *self._keys(role))

    def judge(self, role: str, action: str, resource: str) -> bool:
        """Whether the policies let the role do this, at a service that neither the emulator nor the double has."""
        service = action.partition(":")[0]
        host = f"{service}.{REGION}.amazonaws.com"
        request = AWSRequest("POST", f"https://{host}/", {"Host": host}, b"{}")
        SigV4Auth(Credentials(*self._keys(role)), service, REGION).add_auth(request)
        signed = {"method": "POST", "path": "/", "body": "{}", "headers": list(request.prepare().headers.items())}
        check = {"action": action, "resource": resource, "context": {}}
        denied = post(self.url, CHECK_PATH, **signed, service=service, region=REGION, checks=[check])["denied"]
        assert denied is None or denied["code"] == "AccessDenied", denied
        return denied is None

    def with_region(self, region: str) -> Guarded:
        """The same with what a further region needs: resources of its stack have Further before their logical names."""
        key = self.root("kms").replicate_key(KeyId=self.key, ReplicaRegion=region)["ReplicaKeyMetadata"]["Arn"]
        stack = Stack(self.root("cloudformation", region), "spotune-region", 0.05, 60.0)
        values = {"Stage": "local", "HomeRegion": REGION, "KmsKeyArn": key}
        proposal = stack.propose({"TemplateBody": REGION_TEMPLATE.read_text()}, values, "local")
        assert proposal is not None
        stack.carry_out(proposal, lambda _: None)
        made = {f"Further{name}": physical for name, _, physical in stack.resources()}
        return replace(self, resources={**self.resources, **made})

    def _keys(self, role: str) -> tuple[str, str, str]:
        keys = assumed(self.url, self.role_arn(role), trusted_by(role))
        return keys["access_key"], keys["secret_key"], keys["token"]

    def _client(self, service: str, region: str, access_key: str, secret_key: str, token: str | None = None) -> Any:
        return boto3.client(
            service,
            endpoint_url=self._endpoint(service),
            region_name=region,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            aws_session_token=token,
            config=_CONFIG,
        )

    def _endpoint(self, service: str) -> str:
        return self.double_url if service in _DOUBLED else self.url


def trusted_by(role: str) -> str:
    """The service that a role of the template trusts."""
    if role.endswith("ForwardingRole"):
        return "events.amazonaws.com"
    training = role == "TrainingRole" or role.startswith("TenantRole")
    return "sagemaker.amazonaws.com" if training else "lambda.amazonaws.com"


@cache
def assumed(url: str, role_arn: str, service: str) -> dict[str, str]:
    """Credentials of a role, as the service gets them that it trusts."""
    found = post(url, ASSUME_PATH, role=role_arn, service=service)
    assert "denied" not in found, found
    return {str(key): str(value) for key, value in found.items()}


def post(url: str, path: str, /, **document: object) -> dict[str, Any]:
    """Ask one of the guard's own doors."""
    with urllib.request.urlopen(urllib.request.Request(f"{url}{path}", json.dumps(document).encode())) as answer:
        return dict(json.loads(answer.read()))


@contextmanager
def guarded(home: Path, **parameters: str) -> Iterator[Guarded]:
    """Deploy the template, with these parameters beside or instead of the usual ones, for as long as the context."""
    with _emulator(home) as url:
        bundle = home / "bundle-empty.zip"
        bundle.write_bytes(_empty_zip())
        key = client("kms", url).create_key(MultiRegion=True)["KeyMetadata"]["Arn"]
        wanted = Deployment(bundle, TEMPLATE, f"{url}/none", others=PARAMETERS | {"KmsKeyArn": key} | parameters)
        outputs = deploy(wanted, url)
        listed = client("cloudformation", url).describe_stack_resources(StackName="spotune")["StackResources"]
        double = DoubleServer(Settings(home=home, emulator_url=url, guarded=True, timing=Timing(starting=3600)))
        double.start()
        try:
            resources = {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in listed}
            yield Guarded(url, double.url, outputs, resources, key)
        finally:
            double.stop()


@contextmanager
def _emulator(home: Path) -> Iterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = os.environ | aws_environment(url, url) | emulator.environment(home, port, guarded=True)
    home.mkdir(parents=True, exist_ok=True)
    with (home / "emulator.log").open("wb") as log:
        process = subprocess.Popen(
            emulator.command(), env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        wait_until_up(url, process, home / "emulator.log")
        yield url
    finally:
        process.kill()
        process.wait()


def _empty_zip() -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr("empty.py", "")
    return body.getvalue()


if __name__ == "__main__":
    began = time.monotonic()
    with guarded(Path(sys.argv[1])) as made:
        print(f"{time.monotonic() - began:.1f} s", sorted(made.resources), ACCOUNT)
        print(made.client("ApiRole", "sts").get_caller_identity()["Arn"])
