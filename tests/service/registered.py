"""Succeeded jobs with a model group, their files in S3, and the command that registers them."""

from __future__ import annotations

from spotune.contracts.commands import RegisterModel
from spotune.contracts.job import Decision, JobRecord
from spotune.contracts.models import ModelGroup, ModelVersion
from spotune.contracts.training import PublishedOutput
from spotune.contracts.verdict import GateDecision, Verdict
from spotune.service.launch import run_command
from tests.factories import config, job, report, request
from tests.in_process import World

GROUP = "refunds"
WEIGHTS = "adapter_model.safetensors"


def finished(
    world: World,
    number: int,
    decision: GateDecision = "promote",
    *,
    champion: str | None = None,
    tenant: str = "acme",
    group: str | None = GROUP,
    **changes: object,
) -> tuple[JobRecord, str]:
    """A job that has succeeded, in the store with its files in S3, and the id of its command."""
    name = f"ftjob-{number}"
    folder = f"s3://artifacts/{tenant}/jobs/{name}/output/{name}-1/output/model/"
    weights = f"weights of {name}".encode()
    world.objects.write(folder + WEIGHTS, weights)
    world.objects.write(folder + "adapter_config.json", b"{}")
    world.objects.write(folder + "report.json", b"{}")
    output = PublishedOutput(name="adapter", path=".", bytes=len(weights), difference=0.0)
    values: dict[str, object] = {
        "id": name,
        "tenant": tenant,
        "state": "succeeded",
        "request": request(registry={"group": group}),
        "config": config(job_id=name),
        "report": report(job_id=name, outputs=(output,)),
        "output_uri": folder,
        "fine_tuned_model": None if decision == "reject" else f"ft:tiny::{number}",
        "verdict": Verdict(decision=decision, conditions=(), champion=champion, reason="so it was measured."),
        "billed": 180_000,
        "finished_at": world.clock() + number,
    }
    record = job(**{**values, **changes})
    (entry,) = world.store.create_job(Decision(job=record, commands=(RegisterModel(),)), limit=10**9)
    return record, entry.id


def registered(world: World, number: int, decision: GateDecision = "promote", **changes: object) -> ModelVersion:
    """The version that such a job became, judged against the present champion unless told otherwise."""
    tenant = str(changes.get("tenant", "acme"))
    present = world.store.get_group(tenant, GROUP)
    if "champion" not in changes and present is not None and present.champion is not None:
        version = world.store.get_version(tenant, GROUP, present.champion)
        changes["champion"] = None if version is None else version.name
    record, entry = finished(world, number, decision, **changes)  # type: ignore[arg-type]
    run_command(world.here, record.id, entry)
    found = world.store.find_version(tenant, f"ft:tiny::{number}")
    assert found is not None
    return found


def group_of(world: World, tenant: str = "acme") -> ModelGroup:
    """The group as the store has it."""
    group = world.store.get_group(tenant, GROUP)
    assert group is not None
    return group


def statuses(world: World, tenant: str = "acme") -> list[str]:
    """Of all versions, oldest first."""
    found = world.store.list_versions(tenant, GROUP, after=0, limit=100).items
    return [version.status for version in found][::-1]
