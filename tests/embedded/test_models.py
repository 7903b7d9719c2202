"""Two real jobs of one group: champion, held version, approval, rollback, deletion, and SageMaker's registry."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from spotune.cli.connection import Connection
from spotune.cli.model_api import ModelApi
from spotune.cli.model_pull import pull
from spotune.contracts.layout import split_uri
from spotune.local.deployment import client
from spotune.local.state import StackState
from tests.embedded.test_end_to_end import finished, submit
from tests.polling import wait_for

pytestmark = [pytest.mark.embedded, pytest.mark.torch]

GROUP = "embedded"


@pytest.fixture(scope="module")
def api(trainable: StackState) -> httpx.Client:
    return httpx.Client(
        base_url=f"{trainable.api_url}/v1/", headers={"Authorization": f"Bearer {trainable.api_key}"}, timeout=60
    )


@pytest.fixture(scope="module")
def names(trainable: StackState, api: httpx.Client) -> tuple[str, str]:
    """The models of two jobs: the first is champion, the second waits for a person."""
    sdk = openai.OpenAI(base_url=f"{trainable.api_url}/v1", api_key=trainable.api_key, max_retries=0)
    found = []
    for gate in ({"better_than_base": False}, {"better_than_base": False, "approval": True}):
        job = finished(sdk, submit(sdk, 2, registry={"group": GROUP}, gate=gate))
        assert job.status == "succeeded", job
        found.append(str(job.fine_tuned_model))
        wait_for(lambda: api.get(f"models/{found[-1]}").json()["spotune"]["group"], "the registration")
    return found[0], found[1]


def statuses(api: httpx.Client) -> dict[str, str]:
    return {one["id"]: one["status"] for one in api.get(f"model_groups/{GROUP}/versions").json()["data"]}


def packages(stack: StackState) -> dict[str, str]:
    """Approval of each package of the group that SageMaker's registry shows, by our model's name."""
    sagemaker = client("sagemaker", stack.double_url)
    groups = sagemaker.list_model_package_groups(NameContains=GROUP)["ModelPackageGroupSummaryList"]
    found: dict[str, str] = {}
    for group in groups:
        listed = sagemaker.list_model_packages(ModelPackageGroupName=group["ModelPackageGroupName"])
        for one in listed["ModelPackageSummaryList"]:
            told = sagemaker.describe_model_package(ModelPackageName=one["ModelPackageArn"])
            found[told["CustomerMetadataProperties"]["model"]] = told["ModelApprovalStatus"]
    return found


def keys_of(stack: StackState, uri: str) -> list[str]:
    bucket, prefix = split_uri(uri)
    listed = client("s3", stack.emulator_url).list_objects_v2(Bucket=bucket, Prefix=prefix)
    return [one["Key"] for one in listed.get("Contents", [])]


def sha256s(stack: StackState, uri: str) -> dict[str, str]:
    bucket, prefix = split_uri(uri)
    s3 = client("s3", stack.emulator_url)
    bodies = {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys_of(stack, uri)}
    return {key.removeprefix(prefix): hashlib.sha256(body).hexdigest() for key, body in bodies.items()}


def test_the_life_of_a_group(
    trainable: StackState, api: httpx.Client, sdk: openai.OpenAI, names: tuple[str, str], tmp_path: Path
) -> None:
    first, second = names
    assert statuses(api) == {first: "champion", second: "awaiting_approval"}
    wait_for(lambda: packages(trainable) == {first: "Approved", second: "PendingManualApproval"} or None, "the mirror")

    approved = api.post(f"model_groups/{GROUP}/versions/2/approve", json={"why": "read it"}).json()
    assert approved["status"] == "champion"
    before = sha256s(trainable, api.get(f"model_groups/{GROUP}/versions/1").json()["uri"])
    back = api.post(f"model_groups/{GROUP}/rollback", json={"champion": 2}).json()
    assert back["champion"]["model"] == first
    assert sha256s(trainable, back["champion"]["uri"]) == before, "byte for byte"

    pulled = pull_champion(trainable, tmp_path / "champion")
    assert {str(path.relative_to(pulled)): digest(path) for path in pulled.rglob("*") if path.is_file()} == before

    assert sdk.models.delete(second).deleted
    with pytest.raises(openai.NotFoundError):
        sdk.models.retrieve(second)
    with pytest.raises(openai.ConflictError):
        sdk.models.delete(first)
    uri = api.get(f"model_groups/{GROUP}/versions/2").json()["uri"]
    wait_for(lambda: not keys_of(trainable, uri) or None, "the deletion of its files")
    wait_for(lambda: packages(trainable) == {first: "Approved"} or None, "the mirror")


def pull_champion(stack: StackState, folder: Path) -> Path:
    connection = Connection(stack.api_url, stack.api_key, stack)
    with ModelApi(connection) as models:
        champion: Any = models.group(GROUP).champion
        return pull(models, models.version(GROUP, champion.version), folder)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
