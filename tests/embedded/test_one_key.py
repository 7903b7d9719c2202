"""One idempotency key through three doors at once: the API from two processes, and `submit` itself in a third."""

from __future__ import annotations

import multiprocessing
import os
from typing import Any

import httpx
import pytest

from spotune.contracts.request import JobRequest
from spotune.local.deployment import TENANT, client
from spotune.local.state import StackState, environment
from tests import tiny_model
from tests.polling import wait_for

pytestmark = pytest.mark.embedded

JOBS = "/v1/fine_tuning/jobs"
ROUNDS = 5
PATIENCE = 120


def through_the_api(results: Any, barrier: Any, body: dict[str, Any], url: str, key: str) -> None:
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=PATIENCE) as http:
        for number in range(ROUNDS):
            barrier.wait(PATIENCE)
            answer = http.post(JOBS, json=body, headers={"Idempotency-Key": f"doors-{number}"})
            results.put((number, answer.json().get("id", answer.text)))


def by_itself(results: Any, barrier: Any, body: dict[str, Any], variables: dict[str, str]) -> None:
    os.environ.update(variables)
    from spotune.service.installation import installation
    from spotune.service.jobs.submit import submit

    for number in range(ROUNDS):
        barrier.wait(PATIENCE)
        results.put((number, submit(installation(), TENANT, JobRequest.model_validate(body), f"doors-{number}").id))


def test_the_same_key_through_three_doors_makes_one_job_and_one_training_job(idle_stack: StackState) -> None:
    state = idle_stack
    headers = {"Authorization": f"Bearer {state.api_key}"}
    rows = {"file": ("train.jsonl", tiny_model.chat_rows(20))}
    with httpx.Client(base_url=state.api_url, headers=headers, timeout=PATIENCE) as http:
        uploaded = http.post("/v1/files", files=rows, data={"purpose": "fine-tune"}).raise_for_status().json()["id"]
        body = {"model": tiny_model.NAME, "training_file": uploaded, "constraints": {"budget_usd": 2}}
        submitted = at_once(state, body)
        ids = [{job_id for number, job_id in submitted if number == round_} for round_ in range(ROUNDS)]
        assert [len(one) for one in ids] == [1] * ROUNDS, submitted
        assert len(set.union(*ids)) == ROUNDS
        for job_id in set.union(*ids):
            assert wait_for(lambda job_id=job_id: training_jobs(state, job_id) or None, "CreateTrainingJob") == 1
            job = http.get(f"{JOBS}/{job_id}").raise_for_status().json()["spotune"]
            assert [attempt["number"] for attempt in job["attempts"]] == [1]


def at_once(state: StackState, body: dict[str, Any]) -> list[tuple[int, str]]:
    """Which job each door answered, by round."""
    spawn = multiprocessing.get_context("spawn")
    results, barrier = spawn.Queue(), spawn.Barrier(3)
    doors = [
        spawn.Process(target=through_the_api, args=(results, barrier, body, state.api_url, state.api_key)),
        spawn.Process(target=through_the_api, args=(results, barrier, body, state.api_url, state.api_key)),
        spawn.Process(target=by_itself, args=(results, barrier, body, variables_of(state))),
    ]
    for door in doors:
        door.start()
    submitted = [results.get(timeout=PATIENCE) for _ in range(3 * ROUNDS)]
    for door in doors:
        door.join(PATIENCE)
    return submitted


def variables_of(state: StackState) -> dict[str, str]:
    """What a Lambda of the stack has in its environment."""
    functions = client("lambda", state.emulator_url).list_functions()["Functions"]
    (api,) = [one for one in functions if one["Handler"] == "handlers.api.handler"]
    return environment(state) | dict(api["Environment"]["Variables"])


def training_jobs(state: StackState, job_id: str) -> int:
    found = client("sagemaker", state.double_url).list_training_jobs(NameContains=job_id)
    return len(found["TrainingJobSummaries"])
