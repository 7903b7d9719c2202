"""Runs jobs through the real handlers in a process of its own; its stdout is what Lambda's log would hold.

`python -m tests.handlers.run_a_job` prints, beside the log, one line `secrets: [...]` on stderr: what no line may hold.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import handlers.deliver
import handlers.keys
import handlers.launch
import handlers.reconcile
import handlers.training_changed
from spotune.aws.base import NoAnswer
from spotune.aws.metrics import EmbeddedMetrics
from spotune.contracts import layout
from spotune.contracts.errors import Unavailable
from spotune.service.installation import install
from tests.factories import report
from tests.in_process import Client, Context, World, sqs_record, world
from tests.landings import Landings, made_rule
from tests.tiny_model import NAME

CANARY = "canary-in-a-row"
KEY_CANARY = "sk-spotune-canary-that-opens-nothing"
URL_CANARY = "canary-in-a-url"
JOBS = "/v1/fine_tuning/jobs"


def main() -> None:
    """One job from its upload to a report that cannot be read, then a store that does not answer."""
    made = world()
    here = replace(made.here, metrics=EmbeddedMetrics("test", made.clock))
    install(here)
    key = handlers.keys.handler({"tenant": "acme"}, Context())["key"]
    client = Client(key)
    hook = {"name": "chat", "url": f"https://hooks.example.com/{URL_CANARY}?token={URL_CANARY}"}
    signing = client.call("POST", "/v1/webhook_endpoints", hook).body["signing_secret"]
    Client(KEY_CANARY).call("GET", JOBS)
    body = {"model": NAME, "training_file": client.upload(rows()), "suffix": "prompt"}
    job_id = client.call("POST", JOBS, body, idempotency_key="one").body["id"]
    client.call("POST", JOBS, {**body, "adapter": {"rank": CANARY}})
    deliver(made)
    name = f"{job_id}-1"
    change(made, name, secondary_status="Training", started_at=made.clock() + 30)
    bad_report(made, job_id, name)
    change(made, name, status="Completed", secondary_status="Completed", billable_seconds=100, training_seconds=300)
    land_files(made)
    notify(made)
    lost = [message for message in made.queue.take() if message["attempt"] is not None]  # notifications have none
    break_the_store(made)
    client.call("GET", f"{JOBS}/{job_id}")
    for message in lost:
        handlers.launch.handler(sqs(message), Context())
    handlers.launch.handler(sqs({"nonsense": True}), Context())
    handlers.reconcile.handler({}, Context())
    print("secrets:", json.dumps([CANARY, key, KEY_CANARY, URL_CANARY, signing]), file=sys.stderr)


def rows() -> bytes:
    row = {
        "messages": [{"role": "user", "content": f"{CANARY} ask"}, {"role": "assistant", "content": f"{CANARY} say"}]
    }
    return b"".join(json.dumps(row).encode() + b"\n" for _ in range(40))


def land_files(made: World) -> None:
    """A bad file and a good one, for a rule."""
    made_rule(made)
    lands = Landings(made)
    lands.land("s3://data/acme/in/bad.jsonl", b'{"messages": "%s"}\n{"%s": 1\n' % (CANARY.encode(), CANARY.encode()))
    lands.land("s3://data/acme/in/good.jsonl", rows())


def deliver(made: World) -> None:
    for message in made.queue.take():
        handlers.launch.handler(sqs(message), Context())


def notify(made: World) -> None:
    """Each notification once, to a receiver that answers 500, and then does not answer."""
    made.webhooks.answers.extend([500, NoAnswer("no answer within 10 s")])
    while made.deliveries.messages:
        body = json.dumps(made.deliveries.messages.popleft())
        handlers.deliver.handler({"Records": [sqs_record("m-2", body)]}, Context())


def sqs(body: dict[str, object]) -> dict[str, object]:
    return {"Records": [{"messageId": "m-1", "body": json.dumps(body), "eventSource": "aws:sqs", "receiptHandle": "r"}]}


def change(made: World, name: str, **changes: object) -> None:
    made.training_jobs.observe(name, **changes)
    handlers.training_changed.handler({"detail": {"TrainingJobName": name}}, Context())


def bad_report(made: World, job_id: str, name: str) -> None:
    """A report that cannot be read and that holds a row: its words must not reach the log."""
    folder = layout.model_output_uri(layout.job_uri("artifacts", "acme", job_id), name)
    document = report(job_id=job_id).model_dump(mode="json")
    document["samples"] = [{"prompt": CANARY, "reference": CANARY, "base": [CANARY], "tuned": CANARY}]
    made.objects.write(folder + "report.json", json.dumps(document).encode())


def break_the_store(made: World) -> None:
    """Each further write of a job gets no answer."""

    def refuse(*_: object, **__: object) -> None:
        raise Unavailable("the store does not answer.", code="store_unavailable")

    made.store.commit = refuse  # type: ignore[method-assign]
    made.store.get_command = refuse  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
