"""Jobs under the real roles: the emulator and the double judge every call by the template's own policies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from spotune.local import stack as embedded
from spotune.local.deployment import STACK, TENANT, client
from spotune.local.guard import DECISIONS_PATH
from spotune.local.models import add_base_model
from spotune.local.state import StackState
from tests import tiny_model
from tests.embedded.test_end_to_end import details, finished, submit
from tests.guarded import post
from tests.polling import wait_for

pytestmark = [pytest.mark.embedded, pytest.mark.torch]

PARAMETERS = {
    "Tenants": f"{TENANT},globex",
    "NetworkIsolation": "true",
    "Subnets": "subnet-0a",
    "SecurityGroups": "sg-0a",
    "MaxRuntimeSeconds": "36000",
}


@pytest.fixture(scope="module")
def guarded(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path
) -> Iterator[StackState]:
    """A stack of its own that checks signatures and policies, with training roles for two tenants."""
    home = tmp_path_factory.mktemp("guarded-stack")
    (home / "cache").mkdir()
    (home / "cache" / "bundles").symlink_to(pytestconfig.cache.mkdir("bundles"), target_is_directory=True)
    try:
        state = embedded.up(home, emulator_port=0, double_port=0, guarded=True, parameters=PARAMETERS)
        add_base_model(state, tiny_folder, tiny_model.NAME)
        yield state
    finally:
        embedded.down(home)


@pytest.fixture(scope="module")
def sdk(guarded: StackState) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{guarded.api_url}/v1", api_key=guarded.api_key, max_retries=0)


def roles(state: StackState) -> dict[str, str]:
    """The template's names of the roles, by those that they got."""
    listed = client("cloudformation", state.emulator_url).describe_stack_resources(StackName=STACK)["StackResources"]
    return {
        one["PhysicalResourceId"]: one["LogicalResourceId"] for one in listed if one["ResourceType"] == "AWS::IAM::Role"
    }


def decisions(state: StackState) -> list[dict[str, Any]]:
    names = roles(state)
    found = post(state.emulator_url, DECISIONS_PATH)["decisions"]
    return [{**one, "role": names[one["role"]]} for one in found if one["role"] in names]


def test_a_job_runs_to_its_end_under_the_roles_and_nothing_that_it_needs_is_denied(
    guarded: StackState, sdk: openai.OpenAI
) -> None:
    job = finished(sdk, submit(sdk, epochs=3))
    assert job.status == "succeeded", (job.error, details(job)["error"])
    assert job.fine_tuned_model is not None
    wait_for(lambda: marked(guarded, job.id) or None, "the tag of the ended job's checkpoints")
    seen = decisions(guarded)
    assert [one for one in seen if not one["allowed"]] == []
    workers = {one["role"] for one in seen}
    assert workers >= {"ApiRole", "LaunchRole", "TrainingChangedRole", "ReconcileRole", "TenantRolelocal", "KeysRole"}
    assert "TrainingRole" not in workers, "tenants have roles of their own here"
    written = {one["resource"] for one in seen if one["role"] == "TenantRolelocal" and one["action"] == "s3:PutObject"}
    assert all(f"/{TENANT}/jobs/{job.id}/" in resource for resource in written)


def marked(state: StackState, job_id: str) -> bool:
    """Whether every file of the job's checkpoints carries the tag that S3 forgets them by."""
    s3 = client("s3", state.emulator_url)
    prefix = f"{TENANT}/jobs/{job_id}/checkpoints/"
    found = s3.list_objects_v2(Bucket=state.artifacts_bucket, Prefix=prefix)["Contents"]
    tags = [s3.get_object_tagging(Bucket=state.artifacts_bucket, Key=one["Key"])["TagSet"] for one in found]
    return all(tag == [{"Key": "spotune-job", "Value": "ended"}] for tag in tags)


def test_a_tenant_without_a_role_may_not_train(guarded: StackState) -> None:
    key = issued(guarded, "initech")
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=f"{guarded.api_url}/v1", headers=headers, timeout=60) as api:
        upload = {"file": ("train.jsonl", tiny_model.chat_rows(30)), "purpose": (None, "fine-tune")}
        uploaded = api.post("/files", files=upload).json()
        answer = api.post("/fine_tuning/jobs", json={"model": tiny_model.NAME, "training_file": uploaded["id"]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "tenant_without_role")


def issued(state: StackState, tenant: str) -> str:
    import json

    functions = client("lambda", state.emulator_url)
    (name,) = (
        one["FunctionName"]
        for one in functions.list_functions()["Functions"]
        if one["Handler"].startswith("handlers.keys")
    )
    answer = functions.invoke(FunctionName=name, Payload=json.dumps({"tenant": tenant, "name": "test"}))
    return str(json.loads(answer["Payload"].read())["key"])
