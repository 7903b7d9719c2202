"""New data lands in S3, and the whole loop runs for real: events, Lambdas, the container, the gate, the registry."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from random import Random
from typing import Any

import httpx
import pytest

from spotune.contracts.layout import split_uri
from spotune.contracts.rules import DataManifest
from spotune.local.deployment import client
from spotune.local.state import StackState
from tests import tiny_model
from tests.embedded.bold import NAME, add_bold_model
from tests.embedded.functions import invoke
from tests.polling import wait_for

pytestmark = [pytest.mark.embedded, pytest.mark.torch]

ROWS = 100
"""That a rule waits for: all the distinct ones of a round, so that it cannot fire before the last has landed."""
PREFIX = "local/numbers/"

RULE = {
    "name": "numbers",
    "trigger": {"min_rows": ROWS, "quiet_seconds": 1, "min_interval_seconds": 0, "max_per_day": 5},
    "selection": {"rows": "new"},
    "frozen": {"fraction": 0.2},
    "job": {
        "model": NAME,
        "seed": 3,
        "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 4}}},
        "constraints": {"budget_usd": 2},
        "adapter": {"type": "lora", "rank": 8},
        "training": {"max_sequence_length": 64, "packing": False, "learning_rate": 0.005},
        "gate": {"better_than_base": True, "better_than_champion": {"metric": "eval_loss", "by": 0.0}},
        "registry": {"start_from": "champion"},
    },
}


class Loop:
    """One tenant's rule, its bucket, and the registry that it feeds."""

    def __init__(self, state: StackState) -> None:
        headers = {"Authorization": f"Bearer {state.api_key}"}
        self.http = httpx.Client(base_url=f"{state.api_url}/v1", headers=headers, timeout=60)
        self.s3 = client("s3", state.emulator_url)
        self.bucket = state.data_bucket
        self._state = state
        self.rule = self.call("POST", "/rules", {**RULE, "source": {"uri": f"s3://{self.bucket}/{PREFIX}**"}})

    def call(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.http.request(method, path, json=body)
        assert answer.status_code == 200, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def land(self, name: str, body: bytes) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=PREFIX + name, Body=body)

    def event(self, name: str, sequencer: str) -> str:
        """S3's event of the newest version of a file."""
        head = self.s3.head_object(Bucket=self.bucket, Key=PREFIX + name)
        body = {"key": PREFIX + name, "size": head["ContentLength"], "etag": head["ETag"].strip('"')}
        body |= {"version-id": head["VersionId"]} if "VersionId" in head else {}
        detail = {"bucket": {"name": self.bucket}, "object": {**body, "sequencer": sequencer}, "reason": "PutObject"}
        return json.dumps({"source": "aws.s3", "detail-type": "Object Created", "detail": detail})

    def send(self, event: str) -> None:
        """Put it on the arrivals queue, as EventBridge does: again, or late."""
        sqs = client("sqs", self._state.emulator_url)
        urls = [
            url for url in sqs.list_queues()["QueueUrls"] if "arrivals" in url.lower() and "dead" not in url.lower()
        ]
        sqs.send_message(QueueUrl=urls[0], MessageBody=event)

    def pass_by(self) -> None:
        """What the schedule does once a minute."""
        invoke(self._state, "Reconcile")

    def arrivals(self) -> list[dict[str, Any]]:
        found = self.call("GET", f"/rules/{self.rule['id']}/arrivals?limit=100")["data"]
        return [{**one, "name": one["uri"].partition(PREFIX)[2]} for one in found]

    def states(self, name: str) -> list[str]:
        return sorted(one["state"] for one in self.arrivals() if one["name"] == name)

    def wait_for_states(self, name: str, *states: str) -> None:
        wait_for(lambda: True if self.states(name) == [*states] else None, f"{name} to be {states}")

    def wait_for_arrivals(self, files: int) -> None:
        """Until so many were looked at."""

        def looked_at() -> bool | None:
            found = self.arrivals()
            return True if len(found) >= files and all(one["state"] != "arrived" for one in found) else None

        wait_for(looked_at, f"{files} files to be looked at")

    def quarantined(self, name: str) -> dict[str, Any]:
        """The report beside a file that is not trained on."""
        (found,) = (one for one in self.arrivals() if one["name"] == name)
        return dict(json.loads(self.read(found["report_uri"])))

    def frozen(self) -> set[str]:
        """The rows of the evaluation set."""
        found = self.call("GET", f"/rules/{self.rule['id']}")["evaluation_set"]
        return set(self.read(found["uri"]).decode().splitlines())

    def retrainings(self) -> list[dict[str, Any]]:
        return list(reversed(self.call("GET", f"/rules/{self.rule['id']}/retrainings")["data"]))

    def ended(self, number: int) -> dict[str, Any]:
        """The retraining of this number, once it has ended."""

        def look() -> dict[str, Any] | None:
            self.pass_by()
            found = [one for one in self.retrainings() if one["number"] == number]
            return found[0] if found and found[0]["state"] not in ("preparing", "submitted") else None

        return wait_for(look, f"the end of retraining {number}")

    def read(self, uri: str) -> bytes:
        bucket, key = split_uri(uri)
        return bytes(self.s3.get_object(Bucket=bucket, Key=key)["Body"].read())

    def champion(self) -> dict[str, Any]:
        number = self.call("GET", "/model_groups/numbers")["champion"]["version"]
        return dict(self.call("GET", f"/model_groups/numbers/versions/{number}"))

    def adapter(self) -> str:
        """Of the champion, as its record leads to it."""
        return hashlib.sha256(self.read(self.champion()["uri"] + "adapter_model.safetensors")).hexdigest()


@pytest.fixture(scope="module")
def loop(stack: StackState) -> Iterator[Loop]:
    add_bold_model(stack)
    made = Loop(stack)
    yield made
    made.call("PATCH", f"/rules/{made.rule['id']}", {"enabled": False})


def good(numbers: range) -> list[str]:
    rows = tiny_model.chat_rows(numbers.stop).decode().splitlines()
    return [rows[number] for number in numbers]


def worse(numbers: range) -> list[str]:
    """The same questions with answers of noise."""
    chance = Random(1)
    rows = [json.loads(row) for row in good(numbers)]
    for row in rows:
        row["messages"][1]["content"] = "".join(chance.choices("QXZWVKJ#@~", k=8))
    return [json.dumps(row) for row in rows]


def file(rows: list[str]) -> bytes:
    return "".join(row + "\n" for row in rows).encode()


FIRST, NOISE, BETTER = (range(first, 400, 3) for first in (100, 101, 102))
"""A hundred numbers each, alike."""
PARTS = [good(FIRST[at : at + 5]) for at in range(0, ROWS, 5)]


def test_the_right_runs_start_on_the_right_rows_and_only_a_better_model_replaces_the_champion(loop: Loop) -> None:
    land_the_first_half(loop)
    assert loop.retrainings() == []
    land_the_second_half(loop)
    first = loop.ended(1)
    assert (first["state"], first["decision"]) == ("succeeded", "promote"), first
    assert trained_and_frozen(loop, first) == set(good(FIRST))
    assert [loop.states(name) for name in ("a/corrupt.jsonl", "a/part-3-again.jsonl")] == [
        ["quarantined"],
        ["duplicate"],
    ]
    assert loop.states("b/part-19.jsonl") == ["accepted", "superseded"]
    assert "line 1" in str(loop.quarantined("a/corrupt.jsonl"))
    champion, adapter = loop.champion(), loop.adapter()

    for number in range(3):
        loop.land(f"c/noise-{number}.jsonl", file(worse(NOISE)[number::3]))
    second = loop.ended(2)
    assert (second["state"], second["decision"]) == ("succeeded", "reject"), second
    assert rows_of(loop, second) == set(worse(NOISE))
    assert loop.champion()["version"] == champion["version"]
    assert loop.adapter() == adapter

    for number in range(3):
        loop.land(f"d/part-{number}.jsonl", file(good(BETTER)[number::3]))
    third = loop.ended(3)
    assert (third["state"], third["decision"]) == ("succeeded", "promote"), third
    assert rows_of(loop, third) == set(good(BETTER))
    assert loop.champion()["lineage"]["parent"] == champion["id"]
    assert loop.adapter() != adapter

    loop.call("POST", "/model_groups/numbers/rollback", {"why": "the support team prefers it"})
    assert loop.champion()["version"] == champion["version"]
    assert loop.adapter() == adapter
    loop.pass_by()
    assert [one["number"] for one in loop.retrainings()] == [1, 2, 3], "nothing else started"


def land_the_first_half(loop: Loop) -> None:
    """Ten files with half of the rows, and what is no data: a cut-off file, a copy, a marker."""
    for number, part in enumerate(PARTS[:10]):
        loop.land(f"a/part-{number}.jsonl", file(part))
    loop.land("a/corrupt.jsonl", b'{"messages": [{"role": "user"')
    loop.land("a/part-3-again.jsonl", file(PARTS[3]))
    loop.land("a/_SUCCESS", b"")
    loop.send(loop.event("a/part-1.jsonl", sequencer="FF"))
    loop.send(loop.event("a/part-0.jsonl", sequencer="00"))
    loop.wait_for_arrivals(12)
    loop.pass_by()


def land_the_second_half(loop: Loop) -> None:
    """The other rows in a burst; one file with others before, whose event comes again; and a file of our own."""
    loop.land("b/part-19.jsonl", file(good(range(900, 905))))
    loop.wait_for_states("b/part-19.jsonl", "accepted")
    replaced = loop.event("b/part-19.jsonl", sequencer="00")
    loop.land("b/part-19.jsonl", file(PARTS[19]))
    loop.wait_for_states("b/part-19.jsonl", "accepted", "superseded")
    output = f"local/rules/{loop.rule['id']}/9/training.jsonl"
    loop.s3.put_object(Bucket=loop.bucket, Key=output, Body=file(good(range(800, 805))))
    loop.send(replaced)
    for number, part in enumerate(PARTS[10:19], start=10):
        loop.land(f"b/part-{number}.jsonl", file(part))
    loop.send(loop.event("b/part-12.jsonl", sequencer="FF"))


def trained_and_frozen(loop: Loop, retraining: dict[str, Any]) -> set[str]:
    """What the first retraining trains on and what it carves for the evaluation, which have no row in common."""
    trained, frozen = rows_of(loop, retraining), loop.frozen()
    assert 0 < len(frozen) < len(trained)
    assert not trained & frozen
    return trained | frozen


def rows_of(loop: Loop, retraining: dict[str, Any]) -> set[str]:
    """Of its dataset, as its manifest pins it: each once."""
    manifest = DataManifest.model_validate_json(loop.read(retraining["manifest_uri"]))
    body = loop.read(manifest.uri)
    assert hashlib.sha256(body).hexdigest() == manifest.sha256
    rows = body.decode().splitlines()
    assert len(rows) == len(set(rows)) == manifest.rows == retraining["rows"]
    return set(rows)
