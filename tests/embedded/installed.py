"""An installation of `spotune deploy` in embedded mode's emulator: through its API, and beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from spotune import planner
from spotune.deploy.settings import Settings
from spotune.local.deployment import client
from spotune.local.state import StackState
from tests.polling import wait_for
from tests.tiny_model import chat_rows

TENANT = Settings.model_fields["first_tenant"].default
ENDED = ("succeeded", "failed", "cancelled")


@dataclass
class Installed:
    """One installation.

    Attributes:
        state: of the emulator and the double that it stands in.
        stack: its stack's name.
        outputs: its stack's.
        key: of the API.
        sent: bodies of submissions, by idempotency key.
    """

    state: StackState
    stack: str
    outputs: Mapping[str, str]
    key: str
    sent: dict[str, Any] = field(default_factory=dict)

    def call(self, method: str, path: str, body: Any = None, *, once: str = "") -> Any:
        """What the API answers below /v1."""
        headers = {"Idempotency-Key": once} if once else {}
        answer = self._http().request(method, path, json=body, headers=headers)
        assert answer.status_code == 200, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def submit(self, job: Mapping[str, Any], once: str = "") -> str:
        """A job's id; its rows are uploaded with it."""
        form = {"file": ("train.jsonl", chat_rows(64))}
        uploaded = self._http().post("files", files=form, data={"purpose": "fine-tune"}).json()
        self.sent[once] = {**job, "training_file": uploaded["id"]}
        return str(self.call("POST", "fine_tuning/jobs", self.sent[once], once=once)["id"])

    def job(self, job_id: str) -> Any:
        """A job's object."""
        return self.call("GET", f"fine_tuning/jobs/{job_id}")

    def await_status(self, job_id: str, status: str) -> Any:
        """The job's object once it has this status; it must not end with another one."""

        def look() -> Any:
            job = self.job(job_id)
            assert job["status"] == status or job["status"] not in ENDED, (job["error"], job["spotune"]["error"])
            return job if job["status"] == status else None

        return wait_for(look, f"{job_id} is {status}")

    def give_capacity(self, available: bool) -> None:
        """Whether any instance can be had."""
        with httpx.Client(base_url=f"{self.state.double_url}/_double", timeout=60, trust_env=False) as door:
            for name in planner.load_catalog().instances:
                door.post("/capacity", json={"InstanceType": name, "available": available}).raise_for_status()

    def hold_commands(self, held: bool) -> None:
        """Whether the launch queue's commands wait."""
        functions = client("lambda", self.state.emulator_url)
        queue = self.outputs["QueueUrl"].rpartition("/")[2]
        mappings = functions.list_event_source_mappings()["EventSourceMappings"]
        for one in mappings:
            if one["EventSourceArn"].endswith(f":{queue}"):
                functions.update_event_source_mapping(UUID=one["UUID"], Enabled=not held)

    def code(self) -> str:
        """What the API's function runs."""
        functions = client("lambda", self.state.emulator_url).list_functions()["Functions"]
        ours = self.physical_names()["ApiFunction"]
        return next(str(one["CodeSha256"]) for one in functions if one["FunctionName"] == ours)

    def physical_names(self) -> dict[str, str]:
        """Of the stack's resources, by their names in the template."""
        stacks = client("cloudformation", self.state.emulator_url)
        listed = stacks.describe_stack_resources(StackName=self.stack)["StackResources"]
        return {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in listed}

    def log_numbers(self, job_id: str) -> list[int]:
        """Of a job's log, as the table has them."""
        tables = client("dynamodb", self.state.emulator_url)
        pages = tables.get_paginator("query").paginate(
            TableName=self.outputs["Table"],
            KeyConditionExpression="pk = :job AND begins_with(sk, :log)",
            ExpressionAttributeValues={":job": {"S": f"JOB#{job_id}"}, ":log": {"S": "LOG#"}},
        )
        return [int(item["sk"]["S"].removeprefix("LOG#")) for page in pages for item in page["Items"]]

    def land(self, name: str, body: bytes) -> None:
        """Put a file into the tenant's folder."""
        bucket = self.outputs["DataBucket"]
        client("s3", self.state.emulator_url).put_object(Bucket=bucket, Key=f"{TENANT}/{name}", Body=body)

    def _http(self) -> httpx.Client:
        url = f"{self.state.emulator_url}/_aws/execute-api/{self.outputs['ApiId']}/$default/v1/"
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False)


def attempts(job: Any) -> list[Any]:
    """Of a job's object."""
    return list(job["spotune"]["attempts"])


def accepted(job: Any) -> bool:
    """Whether SageMaker has its newest training job."""
    return bool(attempts(job)) and bool(attempts(job)[-1]["accepted"])
