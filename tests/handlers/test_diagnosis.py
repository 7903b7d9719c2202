"""`spotune explain` as the API answers it."""

from __future__ import annotations

import json

from spotune.contracts import layout
from spotune.service.jobs.observation import observe
from tests.handlers.test_jobs import JOBS, folder_of, submitted
from tests.in_process import Client, World
from tests.tiny_model import chat_rows

HOUR = 3600.0


def test_a_running_job_whose_checkpoints_stop_coming_is_told_apart(world: World, client: Client) -> None:
    job = submitted(client, client.upload(chat_rows(40)))
    world.run_queue()
    name = f"{job['id']}-1"
    world.training_jobs.observe(name, secondary_status="Training", started_at=world.clock())
    observe(world.here, name)
    path = f"{JOBS}/{job['id']}/diagnosis"
    assert client.call("GET", path).body["cause"] == "well"
    world.clock.now += 10 * HOUR
    seen = client.call("GET", path).body
    assert seen["cause"] == "sync_stalled"
    assert seen["evidence"][0].startswith("The newest manifest is missing")
    folder = layout.checkpoints_uri(folder_of(job["id"])) + "checkpoint-5/manifest.json"
    manifest = {"job_id": job["id"], "config_sha256": "", "step": 5, "tokens_seen": 1, "files": []}
    world.objects.write(folder, json.dumps({**manifest, "created_at": world.clock()}).encode())
    assert client.call("GET", path).body["cause"] == "well"


def test_another_tenants_job_is_not_explained(client: Client, stranger: Client) -> None:
    job = submitted(client, client.upload(chat_rows(40)))
    assert stranger.call("GET", f"{JOBS}/{job['id']}/diagnosis").status == 404
