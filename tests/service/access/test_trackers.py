"""Trackers from request to training job: whose secrets, which addresses, and when the network is there."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from spotune.contracts.training import HOME_REGION_VARIABLE
from spotune.service.installation import install
from spotune.service.reconcile import reconcile
from tests import tiny_model
from tests.in_process import Client, World, client_of, world

JOBS = "/v1/fine_tuning/jobs"
OWN = "spotune/test/trackers/acme/wandb"
ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:"
SERVER = "https://mlflow.example.com"


@pytest.fixture
def here() -> World:
    """An installation whose containers may have a network."""
    made = world(network_isolation=False)
    install(made.here)
    return made


@pytest.fixture
def client(here: World) -> Client:
    return client_of(here.here, "acme")


def ask(client: Client, *integrations: dict[str, Any]) -> Any:
    file_id = client.upload(tiny_model.chat_rows(30))
    body = {"model": tiny_model.NAME, "training_file": file_id, "integrations": integrations}
    return client.call("POST", JOBS, body)


def wandb(**changes: object) -> dict[str, Any]:
    return {"type": "wandb", "wandb": {"project": "p", **changes}}


def mlflow(**changes: object) -> dict[str, Any]:
    return {"type": "mlflow", "mlflow": {"tracking_uri": SERVER, **changes}}


def started(here: World, answer: Any) -> tuple[Any, dict[str, Any]]:
    assert answer.status == 200, answer.raw
    here.run_queue()
    spec = here.training_jobs.specs[f"{answer.body['id']}-1"]
    return spec, json.loads(here.objects.read(spec.config_uri + "training.json"))


def test_trackers_reach_the_container_and_the_answer_names_no_secret(here: World, client: Client) -> None:
    answer = ask(client, wandb(secret=OWN, tags=["nightly"]), mlflow(experiment="team"), {"type": "tensorboard"})
    spec, config = started(here, answer)
    first, second, third = config["trackers"]
    assert (first["type"], first["project"], first["secret"], first["tags"]) == ("wandb", "p", OWN, ["nightly"])
    assert (second["server"], second["project"]) == (SERVER, "team")
    assert third["type"] == "tensorboard"
    assert answer.body["integrations"] == [
        {"type": "wandb", "wandb": {"project": "p", "tags": ["nightly"]}},
        {"type": "mlflow", "mlflow": {"tracking_uri": SERVER, "experiment": "team", "tags": []}},
        {"type": "tensorboard"},
    ]
    assert OWN not in answer.raw
    assert spec.environment[HOME_REGION_VARIABLE] == "us-east-1"


@pytest.mark.parametrize(
    ("integrations", "isolated"),
    [
        ((), True),
        (({"type": "tensorboard"},), True),
        ((wandb(),), True),
        ((wandb(secret=OWN),), False),
        ((mlflow(), {"type": "tensorboard"}), False),
    ],
)
def test_only_a_tracker_that_needs_the_network_gets_it_and_the_plan_says_so(
    here: World, client: Client, integrations: tuple[dict[str, Any], ...], isolated: bool
) -> None:
    answer = ask(client, *integrations)
    spec, _ = started(here, answer)
    assert spec.network_isolation is isolated
    resolved = {one["name"]: one for one in answer.body["spotune"]["settings"]}
    assert ("network_isolation" not in resolved) is isolated
    if not isolated:
        assert "cannot be reached from an isolated container" in resolved["network_isolation"]["reason"]


@pytest.mark.parametrize(
    ("integration", "tracker"), [(wandb(secret=OWN), "wandb"), (mlflow(), "mlflow")], ids=["wandb", "mlflow"]
)
def test_where_containers_have_no_network_a_tracker_that_needs_one_is_refused_before_anything_is_recorded(
    integration: dict[str, Any], tracker: str
) -> None:
    made = world()
    install(made.here)
    answer = ask(client_of(made.here, "acme"), {"type": "tensorboard"}, integration)
    assert (answer.status, answer.error["code"]) == (400, "tracker_needs_network")
    assert answer.error["param"] == f"integrations.{tracker}"
    assert "NetworkIsolation=false" in answer.error["message"]
    assert made.store.list_jobs("acme", after=None, limit=10).items == ()


def test_where_containers_have_no_network_trackers_without_a_server_run() -> None:
    made = world()
    install(made.here)
    spec, config = started(made, ask(client_of(made.here, "acme"), {"type": "tensorboard"}, wandb()))
    assert spec.network_isolation
    assert [tracker["type"] for tracker in config["trackers"]] == ["tensorboard", "wandb"]


def test_a_job_with_a_tracker_waiting_while_the_network_is_taken_away_runs_without_one(
    here: World, client: Client
) -> None:
    answer = ask(client, mlflow())
    isolated = replace(here.here, settings=replace(here.here.settings, network_isolation=True))
    install(isolated)
    spec, _ = started(replace(here, here=isolated), answer)
    assert spec.network_isolation


@pytest.mark.parametrize(
    "secret",
    [
        "spotune/test/trackers/other/wandb",
        "spotune/test/trackers/acme-too/wandb",
        "spotune/test/trackers/acme/",
        "spotune/prod/trackers/acme/wandb",
        "spotune-test-signing",
        ARN + "spotune/test/trackers/other/wandb-AbCdEf",
        ARN + "other:secret:spotune/test/trackers/acme/wandb",
    ],
)
def test_a_secret_of_somebody_else_is_refused_before_anything_is_recorded(
    here: World, client: Client, secret: str
) -> None:
    answer = ask(client, wandb(secret=secret))
    assert (answer.status, answer.body["error"]["code"]) == (400, "secret_not_yours")
    assert answer.body["error"]["param"] == "integrations.wandb.secret"
    assert "spotune/test/trackers/acme/" in answer.body["error"]["message"]
    assert here.store.list_jobs("acme", after=None, limit=10).items == ()


def test_a_secret_may_be_named_by_its_arn(here: World, client: Client) -> None:
    _, config = started(here, ask(client, wandb(secret=ARN + OWN + "-AbCdEf")))
    assert config["trackers"][0]["secret"] == ARN + OWN + "-AbCdEf"


@pytest.mark.parametrize(
    ("integration", "reason"),
    [
        (mlflow(tracking_uri="http://169.254.169.254/latest"), "link-local"),
        (mlflow(tracking_uri="http://[fe80::1]"), "link-local"),
        (mlflow(tracking_uri="https://user:key@mlflow.example.com"), "a user, a password"),
        (mlflow(tracking_uri="https://mlflow.example.com/?a="), "a query"),
        (mlflow(tracking_uri="http://mlflow.example.com", secret=OWN), "https only"),
        (wandb(server="http://wandb.example.com", secret=OWN), "https only"),
        (mlflow(tracking_uri="https://mlflow.example.com:port"), "cannot be read"),
    ],
)
def test_a_server_that_is_not_to_be_reached_is_refused(
    client: Client, integration: dict[str, Any], reason: str
) -> None:
    answer = ask(client, integration)
    assert (answer.status, answer.body["error"]["code"]) == (400, "tracking_server_invalid")
    assert reason in answer.body["error"]["message"]


def test_a_team_may_have_its_server_in_a_private_network(client: Client) -> None:
    assert ask(client, mlflow(tracking_uri="http://10.0.3.7:5000")).status == 200


def test_a_tracker_named_twice_is_refused(client: Client) -> None:
    answer = ask(client, mlflow(), mlflow())
    assert (answer.status, answer.body["error"]["code"]) == (400, "integration_repeated")


def test_a_retry_tells_the_container_which_job_it_does_again(here: World, client: Client) -> None:
    first = ask(client, {"type": "tensorboard"}).body
    here.run_queue()
    client.call("POST", f"{JOBS}/{first['id']}/cancel")
    here.training_jobs.observe(f"{first['id']}-1", status="Stopped", secondary_status="Stopped")
    reconcile(here.here)
    answer = client.call("POST", f"{JOBS}/{first['id']}/retry", {})
    _, config = started(here, answer)
    assert config["retry_of"] == first["id"]


def test_a_server_that_no_key_leads_to_is_refused_as_nothing_would_reach_it(here: World, client: Client) -> None:
    answer = ask(client, wandb(server="https://wandb.example.com"))
    assert (answer.status, answer.error["code"]) == (400, "tracking_server_invalid")
    assert "offline" in answer.error["message"]
