"""A job's `training_file` may be a `.dvc` file: of the tenant's own repository, and of the bytes that it names."""

from __future__ import annotations

from hashlib import md5

import pytest

from spotune.service.jobs import submit
from tests.handlers.test_jobs import JOBS, body_for
from tests.in_process import Answer, Client, World
from tests.tiny_model import chat_rows

ROWS = chat_rows(40)
DIGEST = md5(ROWS).hexdigest()
REPOSITORY = "s3://data/acme/repo"
REMOTE = "s3://data/acme/store"
TRACKED = f"{REPOSITORY}/data/train.jsonl.dvc"
CONFIG = "[core]\n    remote = main\n['remote \"main\"']\n    url = {}/\n['remote \"other\"']\n    url = s3://data/globex/x\n"


def lay(world: World, *, url: str = REMOTE, extra: str = "", config: str = f"{REPOSITORY}/.dvc/config") -> None:
    """A repository and its remote in S3."""
    world.objects.write(config, CONFIG.format(url).encode())
    text = f"outs:\n- md5: {DIGEST}\n  size: {len(ROWS)}\n  hash: md5\n  path: train.jsonl\n{extra}"
    world.objects.write(TRACKED, text.encode())
    world.objects.write(f"{REMOTE}/files/md5/{DIGEST[:2]}/{DIGEST[2:]}", ROWS)


def submitted(client: Client, uri: str = TRACKED) -> Answer:
    return client.call("POST", JOBS, body_for(uri))


@pytest.mark.parametrize("config", [f"{REPOSITORY}/.dvc/config", "s3://data/acme/.dvc/config"])
def test_a_job_is_trained_on_the_object_that_it_stands_for(world: World, client: Client, config: str) -> None:
    lay(world, config=config)
    job = submitted(client)
    assert job.status == 200, job.raw
    world.run_queue()
    spec = world.training_jobs.specs[f"{job.body['id']}-1"]
    assert spec.training_uri == f"{REMOTE}/files/md5/{DIGEST[:2]}/{DIGEST[2:]}"
    (file,) = client.call("GET", f"{JOBS}/{job.body['id']}/dataset").body["files"]
    assert (file["uri"], file["bytes"]) == (spec.training_uri, len(ROWS))


@pytest.mark.parametrize("later", [False, True])
def test_an_object_that_is_not_what_it_was_is_refused(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch, later: bool
) -> None:
    lay(world)
    world.objects.write(f"{REMOTE}/files/md5/{DIGEST[:2]}/{DIGEST[2:]}", chat_rows(41))
    if later:
        monkeypatch.setattr(submit, "IN_REQUEST_BYTES", 100)
    answer = submitted(client)
    if later:
        world.run_queue()
        error = client.call("GET", f"{JOBS}/{answer.body['id']}").body["error"]
        assert error["code"] == "dataset_object_changed"
    else:
        assert (answer.status, answer.error["code"]) == (409, "dataset_object_changed")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"url": "s3://data/globex/store"}, "uri_not_allowed"),
        ({"url": "s3://elsewhere/acme/store"}, "uri_not_allowed"),
        ({"url": "/mnt/store"}, "dvc_remote_not_allowed"),
        ({"url": "s3://data/acme/../globex"}, "uri_not_allowed"),
        ({"url": "s3://data/acme/empty"}, "file_not_found"),
        ({"extra": "  remote: other\n"}, "uri_not_allowed"),
        ({"extra": "  remote: none\n"}, "dvc_file_refused"),
        ({"extra": f"- md5: {DIGEST}\n  path: twice\n"}, "dvc_not_one_file"),
        ({"config": "s3://data/acme/repo/data/sub/.dvc/config"}, "dvc_config_missing"),
        ({"config": "s3://data/.dvc/config"}, "dvc_config_missing"),
    ],
)
def test_one_that_leads_elsewhere_is_refused(world: World, client: Client, changes: dict[str, str], code: str) -> None:
    lay(world, **changes)
    world.objects.write(f"s3://data/globex/store/files/md5/{DIGEST[:2]}/{DIGEST[2:]}", ROWS)
    answer = submitted(client)
    assert (answer.status in (400, 404), answer.error["code"]) == (True, code)
    assert answer.error["param"] in ("training_file", None)


@pytest.mark.parametrize("body", [b"", b"outs: &a [*a]", b"x" * 200_000])
def test_one_that_is_none_is_refused(world: World, client: Client, body: bytes) -> None:
    lay(world)
    world.objects.write(TRACKED, body)
    assert submitted(client).error["code"] == "dvc_file_refused"


def test_another_tenant_s_is_not_read(world: World, client: Client, stranger: Client) -> None:
    lay(world)
    assert submitted(stranger).error["code"] == "uri_not_allowed"
    assert submitted(client, f"{REPOSITORY}/none.dvc").error["code"] == "file_not_found"
