"""Submissions to embedded mode on a timetable, whether or not the earlier ones are answered, and when each starts.

The load does not wait for the service: a slow answer delays no later request, and counts from the moment at which its
request was due. Nothing trains: the double has quota for every job and capacity for none, so that each is created and
stays pending.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.api import INSTANCE, JOBS, ROWS
from benchmarks.report import Figure, percentile
from spotune.local.deployment import client
from spotune.local.state import StackState
from tests import tiny_model
from tests.embedded.idle import idle_stack
from tests.tiny_model import chat_rows

RATE = 10
"""Submissions a second."""
SECONDS = 60
WARM_UP = 20
"""Submissions before, one after another."""
CONNECTIONS = 8
"""Of the other measurement: so many callers, each of which sends its next submission once it has an answer."""
CLOSED_SECONDS = 10
BUDGET_USD = 0.5
PATIENCE_SECONDS = 120
"""For the last training job to be created."""


@dataclass(frozen=True)
class Submission:
    """One request: when it was due, when it was answered, and the job that it made, or why it made none."""

    due: float
    answered: float
    job_id: str | None
    failure: str = ""


def through_embedded_mode() -> list[Figure]:
    """Both measurements on a fresh stack."""
    with tempfile.TemporaryDirectory(prefix="spotune-bench-") as folder, idle_stack(Path(folder)) as state:
        return asyncio.run(_measure(state))


async def _measure(state: StackState) -> list[Figure]:
    limits = httpx.Limits(max_connections=1000, max_keepalive_connections=100)
    headers = {"authorization": f"Bearer {state.api_key}"}
    async with httpx.AsyncClient(base_url=state.api_url, headers=headers, timeout=60, limits=limits) as http:
        body = await _body(http)
        for _ in range(WARM_UP):
            await _submit(http, body, time.time())
        steady = await _open_loop(http, body)
        created = await asyncio.to_thread(_created, state, steady)
        busy = await _closed_loop(http, body)
    starts = [created[one.job_id] - one.due for one in steady if one.job_id in created]
    answers = [one.answered - one.due for one in steady]
    failed = sum(one.job_id is None for one in steady)
    for failure, times in Counter(one.failure for one in steady if one.failure).items():
        print(f"{times} times: {failure}")
    return [
        Figure(f"embedded, {RATE} a second for {SECONDS} s: errors", failed, "of " + str(len(steady)), 0),
        Figure("  accepted and never created", len(steady) - failed - len(starts), "jobs", 0),
        Figure("  submit to answer, p50", percentile(answers, 0.5), "s"),
        Figure("  submit to answer, p95", percentile(answers, 0.95), "s"),
        Figure("  submit to CreateTrainingJob, p50", percentile(starts or [float("inf")], 0.5), "s"),
        Figure("  submit to CreateTrainingJob, p95", percentile(starts or [float("inf")], 0.95), "s", 3),
        Figure(f"submissions, embedded, {CONNECTIONS} callers", busy, "a second"),
    ]


async def _body(http: httpx.AsyncClient) -> dict[str, Any]:
    upload = {"files": {"file": ("train.jsonl", chat_rows(ROWS))}, "data": {"purpose": "fine-tune"}}
    answer = (await http.post("/v1/files", **upload)).raise_for_status()
    constraints = {"budget_usd": BUDGET_USD, "instance_types": [INSTANCE]}
    return {"model": tiny_model.NAME, "training_file": answer.json()["id"], "constraints": constraints}


async def _open_loop(http: httpx.AsyncClient, body: dict[str, Any]) -> list[Submission]:
    start = time.time()
    return await asyncio.gather(*(_submit(http, body, start + number / RATE) for number in range(RATE * SECONDS)))


async def _closed_loop(http: httpx.AsyncClient, body: dict[str, Any]) -> float:
    """Submissions a second that several callers get answered."""
    start = time.time()

    async def call_on() -> int:
        made = 0
        while time.time() - start < CLOSED_SECONDS:
            made += (await _submit(http, body, time.time())).job_id is not None
        return made

    made = await asyncio.gather(*(call_on() for _ in range(CONNECTIONS)))
    return sum(made) / (time.time() - start)


async def _submit(http: httpx.AsyncClient, body: dict[str, Any], due: float) -> Submission:
    await asyncio.sleep(max(0.0, due - time.time()))
    try:
        answer = await http.post(JOBS, json=body, headers={"idempotency-key": f"bench-{due}"})
    except httpx.TransportError as error:
        return Submission(due, time.time(), None, f"no answer: {error!r}")
    if answer.status_code != 200:
        return Submission(due, time.time(), None, f"{answer.status_code} {answer.text[:300]}")
    return Submission(due, time.time(), answer.json()["id"])


def _created(state: StackState, submissions: list[Submission]) -> dict[str | None, float]:
    """When each job's training job came to the double, once all have come or patience has ended."""
    wanted = {one.job_id for one in submissions if one.job_id is not None}
    deadline = time.time() + PATIENCE_SECONDS
    while True:
        found = _creation_times(client("sagemaker", state.double_url))
        if wanted <= found.keys() or time.time() > deadline:
            return {job_id: found[job_id] for job_id in wanted & found.keys()}
        time.sleep(0.5)


def _creation_times(sagemaker: Any) -> dict[str | None, float]:
    """By job id, of first attempts."""
    pages = sagemaker.get_paginator("list_training_jobs").paginate(PaginationConfig={"PageSize": 100})
    jobs = [job for page in pages for job in page["TrainingJobSummaries"]]
    return {
        job["TrainingJobName"].removesuffix("-1"): job["CreationTime"].timestamp()
        for job in jobs
        if job["TrainingJobName"].endswith("-1")
    }
