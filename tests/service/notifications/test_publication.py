"""From a command in the outbox to one delivery for each destination, whatever is killed on the way."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spotune.contracts.base import MICRO
from spotune.contracts.commands import Notify
from spotune.contracts.errors import Unavailable
from spotune.contracts.job import Decision, JobRecord, LedgerChange, LogEvent, PayingKey
from spotune.contracts.money import month_of
from spotune.contracts.notifications import Delivery, EventType, OutwardEvent
from spotune.contracts.verdict import Verdict
from spotune.service.installation import Installation
from spotune.service.notifications.publication import notify, warn_of_month
from spotune.service.reconcile import reconcile
from tests.factories import NOW, job
from tests.in_process import World
from tests.in_process import world as make_world
from tests.store.test_notices import endpoint

EVERYTHING: tuple[EventType, ...] = ("fine_tuning.job.succeeded", "fine_tuning.job.failed", "budget.warning")
LIMIT = 1000 * MICRO


@pytest.fixture
def world() -> World:
    return make_world()


def spent(billed: int) -> tuple[LedgerChange, ...]:
    return (LedgerChange(month=month_of(NOW), settle=billed),)


def warn(here: Installation, record: JobRecord) -> None:
    warn_of_month(here, record, month_of(NOW))


def kept(world: World, *messages: str, billed: int = 0, **changes: object) -> JobRecord:
    """A job in the store, with these lines in its log."""
    lines = tuple(
        LogEvent(job_id="ftjob-abc", sequence=number, created_at=NOW + number, level="info", message=words)
        for number, words in enumerate(messages, start=1)
    )
    record = job(event_seq=len(lines), **changes)
    world.store.create_job(Decision(job=record, log=lines, ledgers=spent(billed)), limit=LIMIT)
    return record


def deliveries(world: World) -> list[Delivery]:
    return [Delivery.model_validate(message) for message in world.deliveries.messages]


def event(delivery: Delivery) -> Any:
    return json.loads(delivery.body)


def test_an_event_goes_to_the_topic_and_to_each_endpoint_that_wants_it(world: World) -> None:
    for one in (
        endpoint("we_all", event_types=EVERYTHING),
        endpoint("we_failures", event_types=("fine_tuning.job.failed",)),
        endpoint("we_disabled", event_types=EVERYTHING, disabled_at=NOW),
        endpoint("we_stranger", event_types=EVERYTHING, tenant="globex"),
    ):
        world.store.create_webhook(one)
    verdict = Verdict(decision="promote", conditions=(), reason="nothing was asked of it")
    ended = {"state": "succeeded", "fine_tuned_model": "ft:x", "gate_verdict": "passed", "verdict": verdict}
    record = kept(world, "Job created.", "Model registered.", **ended)
    notify(world.here, record, Notify(type="fine_tuning.job.succeeded", sequence=2))
    sent = [delivery.destination.model_dump(exclude_none=True) for delivery in deliveries(world)]
    assert sent == [{"kind": "topic"}, {"kind": "webhook", "endpoint_id": "we_all"}]
    body = event(deliveries(world)[0])
    assert body == event(deliveries(world)[1])
    assert (body["object"], body["type"], body["created_at"]) == ("event", "fine_tuning.job.succeeded", int(NOW) + 2)
    assert body["data"] == {
        "id": "ftjob-abc",
        "tenant": "acme",
        "message": "Model registered.",
        "state": "succeeded",
        "fine_tuned_model": "ft:x",
        "gate_verdict": "passed",
        "verdict": {"decision": "promote", "conditions": [], "champion": None, "reason": "nothing was asked of it"},
    }


def test_a_failure_says_why_and_what_to_do(world: World) -> None:
    error = {"code": "bad_rows", "message": "line 3", "remedy": "Mend it.", "evidence": "a long trace"}
    record = kept(world, "line 3", state="failed", error=error)
    notify(world.here, record, Notify(type="fine_tuning.job.failed", sequence=1))
    assert event(deliveries(world)[0])["data"]["error"] == {
        "code": "bad_rows",
        "message": "line 3",
        "param": None,
        "remedy": "Mend it.",
    }


def test_the_same_notification_is_the_same_event_byte_for_byte_though_the_job_went_on(world: World) -> None:
    record = kept(world, "Waiting for quota.", "Training.", state="queued")
    command = Notify(type="fine_tuning.job.waiting", sequence=1)
    notify(world.here, record, command)
    notify(world.here, record.with_(state="running", version=9), command)
    one, other = deliveries(world)
    assert one == other
    assert one.event_id == event(one)["id"]


def test_different_news_have_different_ids(world: World) -> None:
    record = kept(world, "one", "two", state="running")
    for command in (
        Notify(type="fine_tuning.job.running", sequence=1),
        Notify(type="fine_tuning.job.running", sequence=2),
        Notify(type="budget.warning", sequence=2),
    ):
        notify(world.here, record, command)
    assert len({delivery.event_id for delivery in deliveries(world)}) == 3


def test_a_line_that_is_not_there_is_a_fault_and_no_event(world: World) -> None:
    record = kept(world, state="running")
    with pytest.raises(ValueError, match="no line 4"):
        notify(world.here, record, Notify(type="fine_tuning.job.running", sequence=4))
    assert deliveries(world) == []


def test_a_process_killed_between_two_deliveries_sends_all_again_under_the_same_id(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.store.create_webhook(endpoint(event_types=EVERYTHING))
    record = job(event_seq=1)
    line = LogEvent(job_id=record.id, sequence=1, created_at=NOW, level="info", message="Done.")
    told = Notify(type="fine_tuning.job.succeeded", sequence=1)
    world.store.create_job(Decision(job=record, log=(line,), commands=(told,)), limit=LIMIT)
    send, calls = world.deliveries.send, []

    def die_at_the_second(body: dict[str, object], tenant: str) -> None:
        calls.append(body)
        if len(calls) == 2:
            raise Unavailable("the queue does not answer.", code="aws_unavailable")
        send(body, tenant)

    monkeypatch.setattr(world.deliveries, "send", die_at_the_second)
    world.clock.now += 120
    assert reconcile(world.here).commands_queued == 1
    with pytest.raises(Unavailable):
        world.run_queue()
    assert reconcile(world.here).commands_queued == 1
    world.run_queue()
    assert reconcile(world.here).commands_queued == 0
    kinds = [delivery.destination.kind for delivery in deliveries(world)]
    assert kinds == ["topic", "topic", "webhook"]
    assert len({delivery.event_id for delivery in deliveries(world)}) == 1


class TestMonth:
    @pytest.mark.parametrize(
        ("billed", "levels"),
        [(499, []), (500, [50]), (799, [50]), (800, [50, 80]), (1000, [50, 80, 100]), (1200, [50, 80, 100])],
    )
    def test_every_level_that_is_passed_is_told_once(self, world: World, billed: int, levels: list[int]) -> None:
        record = kept(world, billed=billed * MICRO)
        for _ in range(3):
            warn(world.here, record)
        told = [event(delivery)["data"] for delivery in deliveries(world)]
        assert [data["reached"] for data in told] == levels
        for data in told:
            assert (data["scope"], data["month"], data["limit"]) == ("month", month_of(NOW), LIMIT)
            assert data["billed"] == billed * MICRO

    def test_a_key_with_a_limit_of_its_own_is_warned_of_apart(self, world: World) -> None:
        paying = PayingKey(id="key_1", monthly_limit=100 * MICRO)
        record = kept(world, billed=90 * MICRO, key=paying)
        for _ in range(2):
            warn(world.here, record)
        told = [event(delivery)["data"] for delivery in deliveries(world)]
        assert [(data["key"], data["reached"], data["limit"]) for data in told] == [
            ("key_1", 50, 100 * MICRO),
            ("key_1", 80, 100 * MICRO),
        ]
        assert len({delivery.event_id for delivery in deliveries(world)}) == 2

    def test_a_later_bill_tells_the_next_level_alone(self, world: World) -> None:
        record = kept(world, billed=600 * MICRO)
        warn(world.here, record)
        before = world.store.find_job(record.id)
        assert before is not None
        world.store.commit(before, Decision(job=before, ledgers=spent(300 * MICRO)), limit=LIMIT)
        warn(world.here, record)
        assert [event(delivery)["data"]["reached"] for delivery in deliveries(world)] == [50, 80]

    def test_a_process_killed_before_it_remembers_tells_again_under_the_same_id(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        record = kept(world, billed=600 * MICRO)

        def die(*_: object) -> None:
            raise Unavailable("the table does not answer.", code="store_unavailable")

        with monkeypatch.context() as dying:
            dying.setattr(type(world.store), "note_told_level", die)
            with pytest.raises(Unavailable):
                warn(world.here, record)
        warn(world.here, record)
        ids = [delivery.event_id for delivery in deliveries(world)]
        assert len(ids) == 2
        assert len(set(ids)) == 1

    def test_tenants_and_months_are_warned_apart(self, world: World) -> None:
        warn(world.here, kept(world, billed=600 * MICRO))
        other = job(id="ftjob-b", tenant="globex")
        world.store.create_job(Decision(job=other, ledgers=spent(600 * MICRO)), limit=LIMIT)
        warn(world.here, other)
        assert [delivery.tenant for delivery in deliveries(world)] == ["acme", "globex"]
        assert len({delivery.event_id for delivery in deliveries(world)}) == 2


def test_the_warning_of_a_jobs_cap_has_its_figures(world: World) -> None:
    record = job(event_seq=1)
    figures: dict[str, object] = {"reached": 80, "billed": 8, "limit": 10}
    line = LogEvent(job_id=record.id, sequence=1, created_at=NOW, level="warn", message="80 %", data=figures)
    world.store.create_job(Decision(job=record, log=(line,)), limit=LIMIT)
    notify(world.here, record, Notify(type="budget.warning", sequence=1))
    body = OutwardEvent.model_validate_json(deliveries(world)[0].body)
    assert body.data == {"id": record.id, "tenant": "acme", "message": "80 %", "scope": "job", **figures}
