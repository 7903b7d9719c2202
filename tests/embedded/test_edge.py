"""The API behind CloudFront with a web ACL, as it is deployed: whoever does not know the stack's secret is refused.

The emulator's CloudFront forwards nothing, so that the request is sent as CloudFront would send it.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from handlers.edge import HEADER
from spotune.local.deployment import CODE_BUCKET, STACK, client
from spotune.local.stack import TEMPLATE
from spotune.local.state import StackState
from tests.polling import wait_for

pytestmark = pytest.mark.embedded

JOBS = "/v1/fine_tuning/jobs"
ACL = "arn:aws:wafv2:us-east-1:000000000000:global/webacl/api/0a1b2c3d"


@pytest.fixture(scope="module")
def guarded(stack: StackState) -> Iterator[StackState]:
    """The stack, deployed again with a web ACL; afterwards without one, as it was."""
    stacks = client("cloudformation", stack.emulator_url)
    (before,) = stacks.describe_stacks(StackName=STACK)["Stacks"]
    parameters = {one["ParameterKey"]: one["ParameterValue"] for one in before["Parameters"]}

    def deploy(acl: str) -> None:
        stacks.update_stack(
            StackName=STACK,
            TemplateURL=f"{stack.emulator_url}/{CODE_BUCKET}/{TEMPLATE.name}",
            Parameters=[
                {"ParameterKey": key, "ParameterValue": value}
                for key, value in {**parameters, "WebAclArn": acl}.items()
            ],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
        )
        wait_for(complete, "the stack's update")

    def complete() -> bool | None:
        (now,) = stacks.describe_stacks(StackName=STACK)["Stacks"]
        assert not now["StackStatus"].endswith("FAILED"), now
        return True if now["StackStatus"] == "UPDATE_COMPLETE" else None

    deploy(ACL)
    yield stack
    deploy("")


def test_who_knows_the_stacks_secret_comes_in_and_nobody_else(guarded: StackState) -> None:
    found = client("cloudformation", guarded.emulator_url).describe_stack_resource(
        StackName=STACK, LogicalResourceId="EdgeSecret"
    )["StackResourceDetail"]["PhysicalResourceId"]
    secret = client("secretsmanager", guarded.emulator_url).get_secret_value(SecretId=found)["SecretString"]
    assert len(secret) == 64

    def ask(**headers: str) -> int:
        sent = {"authorization": f"Bearer {guarded.api_key}", **headers}
        return httpx.get(f"{guarded.api_url}{JOBS}", headers=sent, timeout=60).status_code

    assert ask() == 403
    assert ask(**{HEADER: secret[:-1]}) == 403
    assert ask(**{HEADER: secret}) == 200
