"""A job of a rule's retraining, as the service leaves it: files, dataset, manifest and records."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from spotune.contracts.job import Decision
from spotune.contracts.rules import DataManifest, ManifestEntry, Selection
from spotune.data.assembly.choosing import choose_rows
from spotune.data.assembly.copying import Measured, dataset_bytes
from spotune.data.assembly.hashes import hash_rows
from spotune.data.assembly.sources import Source
from spotune.service.files.reading import Reader
from tests import tiny_model
from tests.in_process import Client, World
from tests.rules import retraining, rule

FOLDER = "s3://data/acme/rules/rule-support/1"


@dataclass(frozen=True)
class Retrained:
    """`body` is the dataset, `sources` what it was made of."""

    job_id: str
    body: bytes
    manifest: DataManifest
    sources: tuple[Source, ...]


def retrained(world: World, client: Client, *files: bytes) -> Retrained:
    """Submit a job on these files, as the tenant's rule would."""
    sources = tuple(_source(world, number, body) for number, body in enumerate(files))
    open_it = Reader(world.objects)
    entries = choose_rows(sources, [], open_it, selection=Selection(), number=1, known_uri=None, keys_uri=None)
    measured = Measured(dataset_bytes(entries, open_it))
    world.objects.write_stream(f"{FOLDER}/training.jsonl", measured)
    manifest = _manifest(entries, measured.sha256)
    world.objects.write(f"{FOLDER}/manifest.json", manifest.model_dump_json().encode())
    before = rule()
    world.store.create_rule(before)
    made = retraining(state="submitted", manifest_uri=f"{FOLDER}/manifest.json")
    world.store.begin_retraining(before.with_(version=1), before.with_(version=1, live=1), made)
    body = {"model": tiny_model.NAME, "training_file": manifest.uri}
    job_id = str(client.call("POST", "/v1/fine_tuning/jobs", body).body["id"])
    job = world.store.find_job(job_id)
    assert job is not None
    world.store.commit(job, Decision(job=job.with_(retraining="rule-support/1")), limit=10**12)
    return Retrained(job_id, world.objects.read(manifest.uri), manifest, sources)


def _source(world: World, number: int, body: bytes) -> Source:
    uri = f"s3://data/acme/support/{number}.jsonl"
    world.objects.write(uri, body)
    world.objects.write_stream(f"{FOLDER}/{number}.hashes", hash_rows([body]))
    info = world.objects.head(uri)
    assert info is not None
    rows = body.count(b"\n")
    return Source(uri, info.version_id, sha256(body).hexdigest(), len(body), rows, f"{FOLDER}/{number}.hashes")


def _manifest(entries: tuple[ManifestEntry, ...], digest: str) -> DataManifest:
    return DataManifest(
        rule_id="rule-support",
        tenant="acme",
        retraining=1,
        created_at=0,
        entries=entries,
        selection=Selection(),
        frozen_sha256="0" * 64,
        rows=sum(entry.taken for entry in entries),
        replayed_rows=0,
        uri=f"{FOLDER}/training.jsonl",
        sha256=digest,
    )
