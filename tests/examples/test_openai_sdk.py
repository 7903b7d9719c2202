"""The SDK example runs against a server that answers as the API does; the embedded suite runs it for real."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

from examples.openai_sdk.finetune import follow, submit
from spotune.contracts.request import JobRequest


class Server:
    """Keeps what it was asked; the job succeeds at the second look, and each look finds one more event."""

    def __init__(self) -> None:
        self.created: dict[str, object] = {}
        self.uploads = 0
        self.looks = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        match request.method, request.url.path:
            case "POST", "/v1/files":
                self.uploads += 1
                return httpx.Response(200, json={"id": f"file-{self.uploads}", "object": "file"})
            case "POST", "/v1/fine_tuning/jobs":
                self.created = json.loads(request.content)
                return httpx.Response(200, json={"id": "ftjob-1", "status": "validating_files"})
            case "GET", "/v1/fine_tuning/jobs/ftjob-1":
                self.looks += 1
                return httpx.Response(200, json={"id": "ftjob-1", "status": ("running", "succeeded")[self.looks - 1]})
            case "GET", "/v1/fine_tuning/jobs/ftjob-1/events":
                events = [{"id": f"e{n}", "level": "info", "message": f"step {n}"} for n in range(self.looks, 0, -1)]
                return httpx.Response(200, json={"object": "list", "data": events, "has_more": False})
        return httpx.Response(404, json={"error": {"message": str(request.url)}})


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    transport = httpx.Client(transport=httpx.MockTransport(server))
    with OpenAI(base_url="http://spotune.test/v1", api_key="key", http_client=transport, max_retries=0) as client:
        yield client


def test_it_creates_a_job_that_the_contract_accepts(server: Server, client: OpenAI, tmp_path: Path) -> None:
    for name in ("train.jsonl", "heldout.jsonl"):
        (tmp_path / name).write_text("{}\n")
    submit(client, tmp_path / "train.jsonl", tmp_path / "heldout.jsonl", model="base", epochs=2)
    request = JobRequest.model_validate(server.created)
    assert (request.training_file, request.validation_file) == ("file-1", "file-2")
    assert request.chosen_hyperparameters.n_epochs == 2
    assert request.constraints.budget_usd == 1.0


def test_it_prints_each_event_once_and_stops_at_the_end(client: OpenAI, capsys: pytest.CaptureFixture[str]) -> None:
    assert follow(client, "ftjob-1", every=0).status == "succeeded"
    assert capsys.readouterr().out.split("\n") == ["info  step 1", "info  step 2", ""]


def test_dpo_is_asked_for_in_the_sdks_own_words(server: Server, client: OpenAI) -> None:
    client.fine_tuning.jobs.create(
        model="base",
        training_file="file-1",
        method={"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.1, "n_epochs": 2}}},
        integrations=[{"type": "wandb", "wandb": {"project": "support", "tags": ["brief"]}}],
    )
    request = JobRequest.model_validate(server.created)
    assert request.objective == "dpo"
    assert request.chosen_hyperparameters.model_dump(include={"beta", "n_epochs"}) == {"beta": 0.1, "n_epochs": 2}
    assert request.integrations is not None
