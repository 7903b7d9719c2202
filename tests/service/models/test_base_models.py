"""Base models by revision: the one in force is what new jobs get, and a job keeps the one that it was made with."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from spotune.contracts import layout
from spotune.contracts.base_model import BaseModelManifest
from spotune.contracts.job import JobRecord
from spotune.contracts.sources import SourceGrant
from spotune.contracts.training import ManifestFile
from spotune.service.installation import install
from spotune.service.retraining.sources import may_feed
from tests import tiny_model
from tests.in_process import Client, World, client_of, world

NAME = "org/mirrored"
FIRST, SECOND = "1" * 40, "2" * 40
JOBS = "/v1/fine_tuning/jobs"


@pytest.fixture
def here() -> World:
    made = world()
    install(made.here)
    return made


@pytest.fixture
def client(here: World) -> Client:
    return client_of(here.here, "acme")


def add(here: World, revision: str, *, in_force: bool = True) -> BaseModelManifest:
    """A revision as `spotune models add` lays it down."""
    folder = f"{revision}/"
    files = {name: body for name, body in tiny_model.files().items() if name != layout.MODEL_MARKER}
    files["model.safetensors"] = revision.encode()
    manifest = BaseModelManifest(
        name=NAME,
        revision=revision,
        parameters=tiny_model.PARAMETERS,
        folder=folder,
        files=tuple(
            ManifestFile(name=name, bytes=len(body), sha256=hashlib.sha256(body).hexdigest())
            for name, body in files.items()
        ),
    )
    files[layout.MODEL_MARKER] = manifest.model_dump_json().encode()
    for name, body in files.items():
        here.objects.write(layout.base_model_folder_uri("models", NAME, folder) + name, body)
    if in_force:
        here.objects.write(layout.base_model_uri("models", NAME) + layout.MODEL_MARKER, files[layout.MODEL_MARKER])
    return manifest


def submit(here: World, client: Client) -> JobRecord:
    file_id = client.upload(tiny_model.chat_rows(30))
    answer = client.call("POST", JOBS, {"model": NAME, "training_file": file_id})
    assert answer.status == 200, answer.raw
    here.run_queue()
    job = here.store.find_job(answer.body["id"])
    assert job is not None
    return job


def test_a_job_reads_the_revision_in_force_and_is_pinned_to_its_files(here: World, client: Client) -> None:
    manifest = add(here, FIRST)
    job = submit(here, client)
    spec = here.training_jobs.specs[f"{job.id}-1"]
    assert spec.model_uri == f"s3://models/base/{NAME}/{FIRST}/"
    config = json.loads(here.objects.read(spec.config_uri + "training.json"))
    assert config["model"] == {"name": NAME, "revision": FIRST}
    assert config["model_sha256"] == manifest.sha256 != ""


def test_another_revision_takes_nothing_from_a_job_that_was_made_before(here: World, client: Client) -> None:
    add(here, FIRST)
    before = submit(here, client)
    add(here, SECOND)
    after = submit(here, client)
    assert (before.model.revision, after.model.revision) == (FIRST, SECOND)
    assert here.objects.head(before.model.uri + "model.safetensors") is not None
    assert before.model.sha256 != after.model.sha256


def test_a_revision_that_is_not_in_force_yet_is_no_model(here: World, client: Client) -> None:
    add(here, FIRST, in_force=False)
    answer = client.call("POST", JOBS, {"model": NAME, "training_file": client.upload(tiny_model.chat_rows(30))})
    assert (answer.status, answer.error["code"]) == (404, "model_not_found")
    assert NAME not in [one["id"] for one in client.call("GET", "/v1/models").body["data"]]


def test_a_model_is_listed_once_however_many_revisions_it_has(here: World, client: Client) -> None:
    add(here, FIRST)
    add(here, SECOND)
    listed = client.call("GET", "/v1/models").body["data"]
    (shown,) = (one["spotune"] for one in listed if one["id"] == NAME)
    assert (shown["uri"], shown["revision"]) == (f"s3://models/base/{NAME}/{SECOND}/", SECOND)


def test_a_job_of_before_there_were_hashes_is_pinned_to_none(here: World, client: Client) -> None:
    file_id = client.upload(tiny_model.chat_rows(30))
    answer = client.call("POST", JOBS, {"model": tiny_model.NAME, "training_file": file_id})
    here.run_queue()
    spec = here.training_jobs.specs[f"{answer.body['id']}-1"]
    assert spec.model_uri == f"s3://models/base/{tiny_model.NAME}/"
    assert json.loads(here.objects.read(spec.config_uri + "training.json"))["model_sha256"] == ""


def test_a_further_region_gets_the_manifest_with_the_files(client: Client) -> None:
    made = world(further_regions=("eu-west-1",))
    install(made.here)
    manifest = add(made, FIRST)
    user = client_of(made.here, "acme")
    body = {
        "model": NAME,
        "training_file": user.upload(tiny_model.chat_rows(30)),
        "constraints": {"regions": ["eu-west-1"]},
    }
    answer = user.call("POST", JOBS, body)
    assert answer.status == 200, answer.raw
    made.run_queue()
    spec = made.elsewhere["eu-west-1"].specs[f"{answer.body['id']}-1"]
    copied = BaseModelManifest.model_validate_json(made.objects.read(spec.model_uri + layout.MODEL_MARKER))
    assert copied.sha256 == manifest.sha256
    assert made.objects.read(spec.model_uri + "model.safetensors") == FIRST.encode()


def test_installations_may_share_the_bucket_of_base_models(here: World) -> None:
    manifest = add(here, FIRST)
    for info in tuple(here.objects.list("s3://models/base/")):
        here.objects.write(info.uri.replace("s3://models/", "s3://shared/"), here.objects.read(info.uri))
        here.objects.delete(info.uri)
    shared = replace(here, here=replace(here.here, settings=replace(here.here.settings, mirror_bucket="shared")))
    install(shared.here)
    job = submit(shared, client_of(shared.here, "acme"))
    assert shared.training_jobs.specs[f"{job.id}-1"].model_uri == f"s3://shared/base/{NAME}/{FIRST}/"
    assert job.model.sha256 == manifest.sha256


def test_a_bucket_of_base_models_feeds_no_rule_whoever_was_let_in(here: World) -> None:
    settings = replace(
        here.here.settings, mirror_bucket="shared", sources=(SourceGrant(tenant="acme", bucket="shared"),)
    )
    with_mirror = replace(here.here, settings=settings)
    assert not may_feed(with_mirror, "acme", "s3://shared/base/org/mirrored/config.json")
    without = replace(here.here, settings=replace(settings, mirror_bucket="models"))
    assert may_feed(without, "acme", "s3://shared/rows.jsonl")
