"""Jobs of one group through the handlers: each is judged against the champion that the one before it became."""

from __future__ import annotations

import json
from typing import Any

import handlers.training_changed
from spotune.contracts import layout
from spotune.contracts.job import JobRecord
from spotune.contracts.scores import Scores
from spotune.contracts.training import REPORT_NAME
from tests import tiny_model
from tests.factories import comparison, report
from tests.in_process import Client, Context, World

JOBS = "/v1/fine_tuning/jobs"
GATE = {"better_than_champion": {"by": 0.01}}


def submitted(world: World, client: Client, **changes: object) -> JobRecord:
    body = {"model": tiny_model.NAME, "training_file": client.upload(tiny_model.chat_rows(30)), "gate": GATE, **changes}
    answer = client.call("POST", JOBS, {"registry": {"group": "triage"}, **body})
    assert answer.status == 200, answer.raw
    world.run_queue()
    return record(world, answer.body["id"])


def record(world: World, job_id: str) -> JobRecord:
    found = world.store.get_job("acme", job_id)
    assert found is not None
    return found


def completed(world: World, client: Client, job: JobRecord, **scores: object) -> dict[str, Any]:
    """The job's object after its training job ended with these scores, which SageMaker tells three times."""
    name = job.attempts[-1].name
    output = layout.model_output_uri(world.here.job_folder(job), name)
    world.objects.write(output + "adapter_model.safetensors", name.encode())
    world.objects.write(
        output + REPORT_NAME, json.dumps(report(job_id=job.id, **scores).model_dump(mode="json")).encode()
    )
    world.training_jobs.observe(name, status="Completed", secondary_status="Completed", billable_seconds=100)
    for _ in range(3):
        handlers.training_changed.handler({"detail": {"TrainingJobName": name}}, Context())
    world.run_queue()
    answer = client.call("GET", f"{JOBS}/{job.id}").body
    assert answer["status"] == "succeeded"
    return dict(answer)


def champion_name(world: World) -> str | None:
    group = world.store.get_group("acme", "triage")
    version = (
        None if group is None or group.champion is None else world.store.get_version("acme", "triage", group.champion)
    )
    return version and version.name


OLD = Scores(eval_loss=0.6, perplexity=1.8)


def against(low: float, high: float) -> dict[str, object]:
    return {"champion": OLD, "against_champion": (comparison(low=low, high=high),)}


def test_a_group_s_champion_is_replaced_by_a_better_model_only(world: World, client: Client) -> None:
    first = completed(world, client, submitted(world, client))
    assert first["spotune"]["verdict"]["decision"] == "promote"
    assert first["fine_tuned_model"] == champion_name(world)

    job = submitted(world, client)
    assert world.training_jobs.specs[job.attempts[0].name].champion_uri == first["spotune"]["output_uri"]
    worse = completed(world, client, job, **against(-0.15, -0.005))
    assert worse["spotune"]["verdict"]["decision"] == "reject"
    assert worse["spotune"]["verdict"]["champion"] == first["fine_tuned_model"]
    assert worse["fine_tuned_model"] is None
    assert worse["spotune"]["gate_verdict"].startswith("rejected: better_than_champion")
    assert champion_name(world) == first["fine_tuned_model"]

    better = completed(world, client, submitted(world, client), **against(-0.15, -0.05))
    assert better["spotune"]["verdict"]["decision"] == "promote"
    assert champion_name(world) == better["fine_tuned_model"]


def test_a_model_that_nobody_compared_with_the_champion_does_not_replace_it(world: World, client: Client) -> None:
    first = completed(world, client, submitted(world, client))
    silent = completed(world, client, submitted(world, client))
    assert silent["spotune"]["verdict"]["decision"] == "hold"
    assert champion_name(world) == first["fine_tuned_model"]
    seen = client.call("GET", f"{JOBS}/{silent['id']}/diagnosis").body
    assert seen["cause"] == "gate_held"
    assert any("the report has no scores of it" in words for words in seen["evidence"])


def test_going_on_from_a_champion_that_differs_is_refused_in_openais_shape(world: World, client: Client) -> None:
    completed(world, client, submitted(world, client, adapter={"type": "lora", "rank": 4}))
    body = {
        "model": tiny_model.NAME,
        "training_file": client.upload(tiny_model.chat_rows(30)),
        "registry": {"group": "triage", "start_from": "champion"},
        "adapter": {"rank": 8},
    }
    refused = client.call("POST", JOBS, body)
    assert refused.status == 400
    assert (refused.error["code"], refused.error["param"]) == ("champion_differs", "adapter.rank")
    assert refused.error["details"]["differences"] == {"adapter.rank": "it has 4, not 8"}
    agreed = client.call("POST", JOBS, {**body, "adapter": {}})
    assert agreed.status == 200, agreed.raw
    assert agreed.body["spotune"]["champion"]["start"] is True


def test_a_loss_that_is_no_number_is_null_in_every_answer(world: World, client: Client) -> None:
    job = submitted(world, client)
    nowhere = Scores(eval_loss=float("nan"), perplexity=float("inf"))
    answer = completed(world, client, job, tuned=nowhere)
    assert answer["spotune"]["report"]["tuned"]["eval_loss"] is None
    version = client.call("GET", "/v1/model_groups/triage/versions/1")
    assert version.status == 200, version.raw
    assert version.body["scores"]["eval_loss"] is None
