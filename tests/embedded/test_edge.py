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
    deploy(stack, WebAclArn=ACL)
    yield stack
    deploy(stack, WebAclArn="", EdgeSecretVersion="")


def deploy(stack: StackState, **changes: str) -> None:
    """The stack again, with these parameters changed."""
    stacks = client("cloudformation", stack.emulator_url)
    (before,) = stacks.describe_stacks(StackName=STACK)["Stacks"]
    parameters = {one["ParameterKey"]: one["ParameterValue"] for one in before["Parameters"]} | changes
    stacks.update_stack(
        StackName=STACK,
        TemplateURL=f"{stack.emulator_url}/{CODE_BUCKET}/{TEMPLATE.name}",
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
    )

    def complete() -> bool | None:
        (now,) = stacks.describe_stacks(StackName=STACK)["Stacks"]
        assert not now["StackStatus"].endswith("FAILED"), now
        return True if now["StackStatus"] == "UPDATE_COMPLETE" else None

    wait_for(complete, "the stack's update")


def physical(stack: StackState, logical: str) -> str:
    found = client("cloudformation", stack.emulator_url).describe_stack_resource(
        StackName=STACK, LogicalResourceId=logical
    )
    return str(found["StackResourceDetail"]["PhysicalResourceId"])


def sent_by_cloudfront(stack: StackState) -> str:
    """What CloudFront puts into the header."""
    edges = client("cloudfront", stack.emulator_url)
    (origin,) = edges.get_distribution_config(Id=physical(stack, "Edge"))["DistributionConfig"]["Origins"]["Items"]
    (header,) = origin["CustomHeaders"]["Items"]
    assert header["HeaderName"] == HEADER
    return str(header["HeaderValue"])


def ask(stack: StackState, **headers: str) -> int:
    sent = {"authorization": f"Bearer {stack.api_key}", **headers}
    return httpx.get(f"{stack.api_url}{JOBS}", headers=sent, timeout=60).status_code


def test_who_knows_the_stacks_secret_comes_in_and_nobody_else(guarded: StackState) -> None:
    secrets = client("secretsmanager", guarded.emulator_url)
    secret = secrets.get_secret_value(SecretId=physical(guarded, "EdgeSecret"))["SecretString"]
    assert len(secret) == 64
    assert sent_by_cloudfront(guarded) == secret
    assert ask(guarded) == 403
    assert ask(guarded, **{HEADER: secret[:-1]}) == 403
    assert ask(guarded, **{HEADER: secret}) == 200


def test_a_rotation_reaches_cloudfront_by_its_version_and_refuses_nobody_meanwhile(guarded: StackState) -> None:
    before = sent_by_cloudfront(guarded)
    secrets, secret = client("secretsmanager", guarded.emulator_url), physical(guarded, "EdgeSecret")
    after = "a" * 64
    version = secrets.put_secret_value(SecretId=secret, SecretString=after)["VersionId"]
    assert ask(guarded, **{HEADER: before}) == 200
    deploy(guarded, EdgeSecretVersion=version)
    assert sent_by_cloudfront(guarded) == after
    assert ask(guarded, **{HEADER: before}) == 200, "an edge that has not heard of it yet"
    wait_for(lambda: ask(guarded, **{HEADER: after}) == 200 or None, "the function to read the secret again")
