"""The function that takes new data in, and the launch function's work on rules, as Lambda calls them."""

from __future__ import annotations

import json

import handlers.data_arrived
import handlers.launch
import handlers.reconcile
from tests import tiny_model
from tests.in_process import Context, World
from tests.landings import Landings, made_rule, rows, states

IN = "s3://data/acme/in/"


def launch(world: World) -> list[str]:
    """Each message of the launch queue by itself; the ids of those that failed."""
    failed: list[str] = []
    for number, message in enumerate(world.queue.take()):
        record = {
            "messageId": str(number),
            "body": json.dumps(message),
            "eventSource": "aws:sqs",
            "receiptHandle": "r",
        }
        answer = handlers.launch.handler({"Records": [record]}, Context())
        failed += [one["itemIdentifier"] for one in answer["batchItemFailures"]]
    return failed


def test_from_a_file_to_a_job_by_the_handlers_alone(world: World) -> None:
    job = {"model": tiny_model.NAME, "constraints": {"budget_usd": 5}}
    made_rule(world, request={"job": job, "trigger": {"min_rows": 30}})
    Landings(world).land(f"{IN}a.jsonl", rows(*range(40)))
    for _ in range(8):
        world.clock.now += 60
        handlers.reconcile.handler({}, Context())
        assert launch(world) == []
    (made,) = world.store.list_jobs("acme", after=None, limit=10).items
    assert made.retraining == "rule-support/1"
    assert world.training_jobs.specs[f"{made.id}-1"].training_uri.endswith("/rules/rule-support/1/training.jsonl")


def test_a_message_that_names_no_rule_that_is_there_is_done(world: World) -> None:
    world.queue.send({"rule_id": "rule-gone", "sweep": True})
    assert launch(world) == []


def test_what_fails_is_named_and_nothing_else(world: World) -> None:
    made_rule(world)
    good = Landings(world).put(f"{IN}a.jsonl", rows(1))
    bodies = {"one": "no json", "two": json.dumps(good), "three": json.dumps({"detail-type": "Object Created"})}
    records = [{"messageId": name, "body": body} for name, body in bodies.items()]
    answer = handlers.data_arrived.handler({"Records": records}, Context())
    assert answer == {"batchItemFailures": [{"itemIdentifier": "one"}, {"itemIdentifier": "three"}]}
    assert states(world) == ["accepted"]
