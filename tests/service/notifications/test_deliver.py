"""One try of one delivery, and what follows it."""

from __future__ import annotations

import pytest

from spotune.aws.base import AwsRefused, NoAnswer, WebhookRefused
from spotune.contracts.errors import Unavailable
from spotune.contracts.notifications import Delivery, ToTopic, ToWebhook
from spotune.service.notifications import webhooks
from spotune.service.notifications.deliver import JITTER, PAUSES, TRIES, deliver
from tests.factories import NOW
from tests.in_process import World
from tests.in_process import world as make_world
from tests.store.test_notices import endpoint

TO_WEBHOOK = Delivery(
    tenant="acme",
    event_id="evt_1",
    type="fine_tuning.job.succeeded",
    destination=ToWebhook(endpoint_id="we_1"),
    body='{"id":"evt_1"}',
)
TO_TOPIC = TO_WEBHOOK.with_(destination=ToTopic())


@pytest.fixture
def world() -> World:
    made = make_world()
    made.store.create_webhook(endpoint())
    return made


def test_the_topic_gets_the_body_and_what_subscriptions_filter_by(world: World) -> None:
    assert deliver(world.here, TO_TOPIC, 1) is None
    assert world.topic.published == [(TO_TOPIC.body, {"tenant": "acme", "type": "fine_tuning.job.succeeded"})]
    assert world.webhooks.posted == []


@pytest.mark.parametrize(
    "error", [Unavailable("SNS does not answer.", code="aws_unavailable"), AwsRefused("NotFound", "no topic")], ids=str
)
def test_a_topic_that_fails_is_tried_again_as_a_webhook_is(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(world.topic, "publish", fail)
    assert (deliver(world.here, TO_TOPIC, 1) or 0) >= PAUSES[0]
    assert deliver(world.here, TO_TOPIC, TRIES) == 0


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_a_success_is_the_end_of_it(world: World, status: int) -> None:
    world.webhooks.answers.append(status)
    assert deliver(world.here, TO_WEBHOOK, 1) is None
    ((url, headers, body),) = world.webhooks.posted
    assert (url, body) == ("https://hooks.example.com/", TO_WEBHOOK.body.encode())
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == ("evt_1", str(int(NOW)))
    assert headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    "answer",
    [301, 307, 400, 401, 404, 429, 500, 503, NoAnswer("timed out"), WebhookRefused("leads to 10.0.0.1")],
    ids=str,
)
def test_everything_else_is_tried_again_later_and_later(world: World, answer: int | Exception) -> None:
    for tries, pause in enumerate(PAUSES, start=1):
        world.webhooks.answers.append(answer)
        waited = deliver(world.here, TO_WEBHOOK, tries)
        assert waited is not None
        assert pause <= waited <= pause * (1 + JITTER) + 1
    assert sorted(PAUSES) == list(PAUSES)


def test_after_the_last_try_the_message_is_shown_at_once_to_become_a_dead_letter(world: World) -> None:
    world.webhooks.answers += [500, 500]
    assert deliver(world.here, TO_WEBHOOK, TRIES) == deliver(world.here, TO_WEBHOOK, TRIES + 1) == 0


def test_each_try_is_signed_at_its_own_time_under_the_same_id(world: World) -> None:
    world.webhooks.answers.append(500)
    deliver(world.here, TO_WEBHOOK, 1)
    world.clock.now += 3600
    deliver(world.here, TO_WEBHOOK, 2)
    (_, first, _), (_, second, _) = world.webhooks.posted
    assert first["webhook-id"] == second["webhook-id"]
    assert int(second["webhook-timestamp"]) - int(first["webhook-timestamp"]) == 3600
    assert first["webhook-signature"] != second["webhook-signature"]


def test_gone_disables_the_endpoint_and_what_follows_is_dropped(world: World) -> None:
    world.webhooks.answers.append(410)
    assert deliver(world.here, TO_WEBHOOK, 1) is None
    disabled = world.store.get_webhook("acme", "we_1")
    assert disabled is not None
    assert disabled.disabled_at == NOW
    assert deliver(world.here, TO_WEBHOOK, 1) is None
    assert len(world.webhooks.posted) == 1


def test_an_endpoint_that_was_deleted_meanwhile_drops_the_message(world: World) -> None:
    world.store.delete_webhook("acme", "we_1")
    assert deliver(world.here, TO_WEBHOOK, 1) is None
    assert world.webhooks.posted == []


def test_an_endpoint_deleted_while_it_answers_gone_stays_deleted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def delete_and_answer(*_: object) -> int:
        world.store.delete_webhook("acme", "we_1")
        return 410

    monkeypatch.setattr(world.webhooks, "post", delete_and_answer)
    assert deliver(world.here, TO_WEBHOOK, 1) is None
    assert world.store.get_webhook("acme", "we_1") is None


def test_a_secret_replaced_while_the_receiver_answers_gone_stays_replaced(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rotate_and_answer(*_: object) -> int:
        webhooks.rotate_secret(world.here, "acme", "we_1", keep_old=False)
        return 410

    monkeypatch.setattr(world.webhooks, "post", rotate_and_answer)
    assert deliver(world.here, TO_WEBHOOK, 1) is None
    kept = world.store.get_webhook("acme", "we_1")
    assert kept is not None
    assert (kept.secret_version, kept.disabled_at) == (2, None)


def test_a_replaced_secret_signs_on_for_a_day_where_that_was_asked_for(world: World) -> None:
    webhooks.rotate_secret(world.here, "acme", "we_1", keep_old=True)
    deliver(world.here, TO_WEBHOOK, 1)
    world.clock.now += 24 * 3600 + 1
    deliver(world.here, TO_WEBHOOK, 1)
    webhooks.rotate_secret(world.here, "acme", "we_1", keep_old=False)
    deliver(world.here, TO_WEBHOOK, 1)
    signatures = [headers["webhook-signature"].split() for _, headers, _ in world.webhooks.posted]
    assert [len(one) for one in signatures] == [2, 1, 1]
