"""Two regions for real: the region's template, a plan that goes where it is cheaper, the copy, and training there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from botocore.exceptions import ClientError

from spotune.cli.adapters import fetch_adapter
from spotune.cli.connection import Connection
from spotune.contracts.api import JobObject
from spotune.contracts.layout import split_uri
from spotune.local import stack as embedded
from spotune.local.deployment import CODE_BUCKET, STACK, client
from spotune.local.models import add_base_model
from spotune.local.state import ACCOUNT, EVENT_SOURCE, StackState
from tests import tiny_model
from tests.embedded.functions import invoke
from tests.local.double.conftest import aws
from tests.polling import wait_for

pytestmark = [pytest.mark.embedded, pytest.mark.torch]

AWAY = "eu-west-1"
REGION_TEMPLATE = embedded.TEMPLATE.with_name("region.yaml")


@pytest.fixture(scope="module")
def two_regions(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path
) -> Iterator[StackState]:
    """A stack of its own, whose installation names a second region."""
    home = tmp_path_factory.mktemp("two-regions")
    (home / "cache").mkdir()
    (home / "cache" / "bundles").symlink_to(pytestconfig.cache.mkdir("bundles"), target_is_directory=True)
    state = embedded.up(home, emulator_port=0, double_port=0)
    try:
        add_region(state)
        add_base_model(state, tiny_folder, tiny_model.NAME)
        yield state
    finally:
        embedded.down(home)


def add_region(state: StackState) -> None:
    """As docs/regions.md says: the region's template there, then its name in the installation's."""
    there = aws("cloudformation", state.emulator_url, AWAY)
    there.create_stack(
        StackName="spotune-region",
        TemplateBody=REGION_TEMPLATE.read_text(),
        Parameters=parameters(Stage="local", HomeRegion="us-east-1", EventSource=EVENT_SOURCE),
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    wait_for(lambda: status(there, "spotune-region") == "CREATE_COMPLETE" or None, "the region's stack")
    here = client("cloudformation", state.emulator_url)
    (stack,) = here.describe_stacks(StackName=STACK)["Stacks"]
    kept = {one["ParameterKey"]: one["ParameterValue"] for one in stack["Parameters"]}
    here.update_stack(
        StackName=STACK,
        TemplateURL=f"{state.emulator_url}/{CODE_BUCKET}/{embedded.TEMPLATE.name}",
        Parameters=parameters(**(kept | {"FurtherRegions": AWAY})),
        Capabilities=["CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
    )
    wait_for(lambda: status(here, STACK) == "UPDATE_COMPLETE" or None, "the installation's update")


def parameters(**values: str) -> list[dict[str, str]]:
    return [{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()]


def status(stacks: Any, name: str) -> str:
    (stack,) = stacks.describe_stacks(StackName=name)["Stacks"]
    assert not stack["StackStatus"].endswith(("FAILED", "ROLLBACK_COMPLETE")), stack
    return str(stack["StackStatus"])


def test_a_job_goes_where_it_is_cheaper_and_all_of_it_stays_there(
    two_regions: StackState, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    state = two_regions
    door = f"{state.double_url}/_double/market"
    prices = {"ml.g4dn.xlarge": 0.1, "ml.g5.xlarge": 0.2, "ml.g6.xlarge": 0.2}
    httpx.post(door, json={"region": AWAY, "prices": prices}).raise_for_status()
    refreshed = invoke(state, "RefreshMarket")
    assert [one["region"] for one in refreshed["further"]] == [AWAY]
    assert not [source for source in refreshed["further"][0]["sources"] if source["error"]]

    sdk = openai.OpenAI(base_url=f"{state.api_url}/v1", api_key=state.api_key, max_retries=0)
    uploaded = sdk.files.create(file=("train.jsonl", tiny_model.chat_rows(64)), purpose="fine-tune")
    job = sdk.fine_tuning.jobs.create(
        model=tiny_model.NAME,
        training_file=uploaded.id,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": 4}}},
        extra_body={
            "constraints": {"budget_usd": 5},
            "adapter": {"type": "lora", "rank": 4},
            "training": {"max_sequence_length": 64},
            "gate": {"better_than_base": False},
        },
    )

    def ended() -> Any:
        invoke(state, "Reconcile")  # the emulator forwards no event from one region to another
        found = sdk.fine_tuning.jobs.retrieve(job.id)
        return found if found.status in ("succeeded", "failed", "cancelled") else None

    done = wait_for(ended, "the end of the job")
    seen = JobObject.model_validate(done.to_dict())
    details = seen.spotune
    assert done.status == "succeeded", details.error
    assert details.region == AWAY
    assert details.plan is not None
    assert 0 < details.money.transfer == details.plan.chosen.transfer < details.money.billed

    name = details.attempts[0].name
    there = aws("sagemaker", state.double_url, AWAY).describe_training_job(TrainingJobName=name)
    assert there["TrainingJobArn"].split(":")[3] == AWAY
    with pytest.raises(ClientError):
        aws("sagemaker", state.double_url).describe_training_job(TrainingJobName=name)
    read = {one["ChannelName"]: one["DataSource"]["S3DataSource"]["S3Uri"] for one in there["InputDataConfig"]}
    prefix = f"spotune-local-{ACCOUNT}-{AWAY}"
    assert {channel: split_uri(uri)[0] for channel, uri in read.items()} == {
        "config": f"{prefix}-jobs",
        "training": f"{prefix}-data",
        "model": f"{prefix}-models",
    }
    assert split_uri(str(details.output_uri))[0] == f"{prefix}-jobs"
    assert len(sdk.fine_tuning.jobs.checkpoints.list(job.id).data) >= 1
    at_home = client("s3", state.emulator_url).list_objects_v2(Bucket=state.artifacts_bucket)["Contents"]
    # Made before there was a plan, of files that lie at home themselves.
    assert [one["Key"].rpartition("/")[2] for one in at_home] == ["quality.json"]

    monkeypatch.setenv("SPOTUNE_HOME", str(tmp_path))
    folder = fetch_adapter(Connection(url=state.api_url, key=state.api_key, stack=state), seen)
    assert (folder / "adapter_model.safetensors").stat().st_size > 0

    sdk.files.delete(uploaded.id)
    s3 = aws("s3", state.emulator_url, AWAY)
    assert not s3.list_objects_v2(Bucket=f"{prefix}-data").get("Contents")
    assert s3.list_objects_v2(Bucket=f"{prefix}-models").get("Contents")


def test_a_region_that_the_installation_lacks_is_refused(two_regions: StackState) -> None:
    state = two_regions
    sdk = openai.OpenAI(base_url=f"{state.api_url}/v1", api_key=state.api_key, max_retries=0)
    uploaded = sdk.files.create(file=("train.jsonl", tiny_model.chat_rows(30)), purpose="fine-tune")
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.fine_tuning.jobs.create(
            model=tiny_model.NAME, training_file=uploaded.id, extra_body={"constraints": {"regions": ["ap-south-1"]}}
        )
    assert refused.value.code == "unknown_region"
    assert "us-east-1, eu-west-1" in str(refused.value)
