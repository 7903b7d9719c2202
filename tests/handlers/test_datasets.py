"""`GET /v1/fine_tuning/jobs/{id}/dataset`: what a job was trained on, for its tenant and nobody else."""

from __future__ import annotations

from hashlib import sha256

import pytest

from spotune.service.jobs import submit
from tests.handlers.test_jobs import JOBS, body_for
from tests.in_process import Client, World
from tests.retrained import FOLDER, Retrained, retrained
from tests.tiny_model import chat_rows

ROWS = chat_rows(60)
FILES = (b"".join(ROWS.splitlines(keepends=True)[:40]), b"".join(ROWS.splitlines(keepends=True)[20:]))


@pytest.fixture
def made(world: World, client: Client) -> Retrained:
    return retrained(world, client, *FILES)


def test_a_job_s_files_come_with_their_hashes_and_urls_that_end(world: World, client: Client) -> None:
    training, validation = client.upload(chat_rows(40)), client.upload(chat_rows(10))
    job = client.call("POST", JOBS, body_for(training, validation_file=validation)).body
    answer = client.call("GET", f"{JOBS}/{job['id']}/dataset")
    assert answer.status == 200, answer.raw
    first, second = answer.body["files"]
    assert (first["role"], first["sha256"], first["rows"]) == ("training", sha256(chat_rows(40)).hexdigest(), 40)
    assert (second["role"], second["bytes"]) == ("validation", len(chat_rows(10)))
    assert first["url"].endswith("&expires=3600")
    assert answer.body["expires_at"] == int(world.clock()) + 3600
    assert answer.body["manifest_url"] is None
    assert client.call("GET", f"{JOBS}/{job['id']}/dataset/objects").body["data"] == []


def test_a_file_that_is_gone_has_no_url(world: World, client: Client) -> None:
    training = client.upload(chat_rows(40))
    job = client.call("POST", JOBS, body_for(training)).body
    client.call("DELETE", f"/v1/files/{training}")
    (file,) = client.call("GET", f"{JOBS}/{job['id']}/dataset").body["files"]
    assert file["url"] is None
    assert file["sha256"] == sha256(chat_rows(40)).hexdigest()


def test_a_job_whose_files_were_not_read_yet_has_no_dataset(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "IN_REQUEST_BYTES", 100)
    job = client.call("POST", JOBS, body_for(client.upload(chat_rows(40)))).body
    answer = client.call("GET", f"{JOBS}/{job['id']}/dataset")
    assert (answer.status, answer.error["code"]) == (409, "dataset_not_checked")


def test_a_rule_s_job_has_its_manifest_and_the_versions_in_it(client: Client, made: Retrained) -> None:
    answer = client.call("GET", f"{JOBS}/{made.job_id}/dataset").body
    assert answer["manifest_url"].startswith(f"memory://{FOLDER[5:]}/manifest.json?")
    first = client.call("GET", f"{JOBS}/{made.job_id}/dataset/objects", query="limit=1").body
    second = client.call("GET", f"{JOBS}/{made.job_id}/dataset/objects", query=f"limit=1&after={first['last_id']}").body
    assert (first["has_more"], second["has_more"]) == (True, False)
    listed = [*first["data"], *second["data"]]
    assert [(one["uri"], one["version_id"]) for one in listed] == [(one.uri, one.version_id) for one in made.sources]
    assert all(f"versionId={one['version_id']}&" in one["url"] for one in listed)


@pytest.mark.parametrize(
    "uri", ["s3://data/globex/files/f/secret.jsonl", "s3://models/base/m", "s3://data/acme2/x", "/etc/passwd"]
)
def test_a_manifest_that_was_tampered_with_opens_nobody_else_s_objects(
    world: World, client: Client, made: Retrained, uri: str
) -> None:
    entries = (made.manifest.entries[0].with_(uri=uri), *made.manifest.entries[1:])
    forged = made.manifest.with_(entries=entries).model_dump_json().encode()
    world.objects.write(f"{FOLDER}/manifest.json", forged)
    answer = client.call("GET", f"{JOBS}/{made.job_id}/dataset/objects")
    assert (answer.status, answer.error["code"]) == (400, "manifest_damaged")
    assert "expires" not in answer.raw


def test_a_manifest_that_cannot_be_read_is_named(world: World, client: Client, made: Retrained) -> None:
    world.objects.write(f"{FOLDER}/manifest.json", b"{ cut")
    answer = client.call("GET", f"{JOBS}/{made.job_id}/dataset/objects")
    assert (answer.status, answer.error["code"]) == (400, "manifest_damaged")
    assert "manifest.json" in answer.error["message"]


@pytest.mark.parametrize("query", ["after=x", "after=-1", "limit=0", "limit=1001", "after=99999999999999"])
def test_a_cursor_that_makes_no_sense_is_refused(client: Client, made: Retrained, query: str) -> None:
    assert client.call("GET", f"{JOBS}/{made.job_id}/dataset/objects", query=query).status == 400
