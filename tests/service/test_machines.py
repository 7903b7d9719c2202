"""Each attempt's config and request are of the machines of its rung."""

from __future__ import annotations

import json

import pytest

from spotune import planner
from spotune.contracts.job import JobRecord
from spotune.contracts.plan import HardwareConfig, Rung
from spotune.contracts.request import JobRequest
from spotune.planner import statement
from spotune.planner.interruptions import BILLED_START_SECONDS
from spotune.planner.ladder import build_ladder
from spotune.service.installation import install
from spotune.service.jobs.observation import observe
from spotune.service.jobs.submit import submit
from spotune.service.launch import attempt_config
from tests import tiny_model
from tests.in_process import World, client_of, world

FOUR = HardwareConfig(sharding="ddp", micro_batch_size=1, gradient_checkpointing=True)


@pytest.fixture
def here() -> World:
    made = world()
    install(made.here)
    return made


def test_an_attempt_on_another_rung_has_that_rungs_machines_and_the_same_global_batch(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wider_second_rung(*given: object) -> tuple[Rung, ...]:
        first, *rest = build_ladder(*given)
        return (first, first.with_(instance_types=("ml.g5.12xlarge",), instance_count=2, hardware=FOUR), *rest)

    monkeypatch.setattr(statement, "build_ladder", wider_second_rung)
    file_id = client_of(here.here, "acme").upload(tiny_model.chat_rows(30))
    job = submit(here.here, "acme", JobRequest(model=tiny_model.NAME, training_file=file_id), "one-key")
    here.run_queue()
    here.training_jobs.observe(
        f"{job.id}-1", status="Failed", secondary_status="Failed", failure_reason="CapacityError: Unable to provision"
    )
    observe(here.here, f"{job.id}-1")
    here.run_queue()

    one, two = (config_of(here, f"{job.id}-{number}") for number in (1, 2))
    assert one["hardware"] == job.plan.rungs[0].hardware.model_dump(mode="json")
    assert two["hardware"] == FOUR.model_dump(mode="json")
    assert one["optimization"] == two["optimization"]
    spec = here.training_jobs.specs[f"{job.id}-2"]
    assert (spec.instance_types, spec.instance_count) == (("ml.g5.12xlarge",), 2)


def test_each_attempt_is_told_what_its_launches_take_before_the_container_sees_them(here: World) -> None:
    file_id = client_of(here.here, "acme").upload(tiny_model.chat_rows(30))
    job = submit(here.here, "acme", JobRequest(model=tiny_model.NAME, training_file=file_id), "one-key")
    here.run_queue()
    limits = config_of(here, f"{job.id}-1")["limits"]
    assert limits["unseen_seconds"] >= job.plan.chosen.start_seconds >= BILLED_START_SECONDS
    assert limits["max_runtime_seconds"] == here.training_jobs.specs[f"{job.id}-1"].max_runtime


def test_no_more_disk_is_asked_for_than_the_rungs_smallest_machine_has(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a run needs is bounded without its architecture; SageMaker refuses more than a type's own disk."""

    def two_types(*given: object) -> tuple[Rung, ...]:
        first, *rest = build_ladder(*given)
        types, prices = ("ml.g6.xlarge", "ml.g4dn.xlarge"), first.on_demand_prices * 2
        return (first.with_(instance_types=types, prices=prices, on_demand_prices=prices), *rest)

    monkeypatch.setattr(statement, "build_ladder", two_types)
    monkeypatch.setattr(planner, "disk_gb", lambda *_: 900)
    file_id = client_of(here.here, "acme").upload(tiny_model.chat_rows(30))
    job = submit(here.here, "acme", JobRequest(model=tiny_model.NAME, training_file=file_id), "one-key")
    here.run_queue()
    assert here.training_jobs.specs[f"{job.id}-1"].volume_gb == 125


def test_a_job_of_an_earlier_version_is_read_and_its_next_attempt_has_a_config_of_this_one(here: World) -> None:
    file_id = client_of(here.here, "acme").upload(tiny_model.chat_rows(30))
    job = submit(here.here, "acme", JobRequest(model=tiny_model.NAME, training_file=file_id), "one-key")
    body = job.model_dump(mode="json")
    body["config"]["version"] = 1
    for name in ("retry_of", "quantization", "objective", "outputs", "trackers"):
        del body["config"][name]
    earlier = JobRecord.model_validate(body)
    expected = attempt_config(job, job.attempts[0])
    if job.config.method == "qlora":  # the container takes what no type is named for as nf4
        expected = expected.with_(quantization="none")
    assert attempt_config(earlier, job.attempts[0]) == expected


def config_of(here: World, name: str) -> dict[str, dict[str, object]]:
    return json.loads(here.objects.read(here.training_jobs.specs[name].config_uri + "training.json"))
