"""Webhook endpoints and told warnings: what every store must do with them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from spotune.contracts.notifications import WebhookEndpoint
from spotune.store.base import Store
from tests.factories import NOW


def endpoint(endpoint_id: str = "we_1", **changes: object) -> WebhookEndpoint:
    values: dict[str, object] = {
        "id": endpoint_id,
        "tenant": "acme",
        "name": "ci",
        "url": "https://hooks.example.com/",
        "event_types": ("fine_tuning.job.succeeded",),
        "created_at": NOW,
        "updated_at": NOW,
    }
    return WebhookEndpoint.model_validate({**values, **changes})


def test_an_endpoint_is_read_back_as_it_was(store: Store) -> None:
    kept = endpoint(secret_version=3, old_secret_until=NOW + 5, disabled_at=NOW)
    store.create_webhook(kept)
    assert store.get_webhook("acme", "we_1") == kept
    assert store.list_webhooks("acme") == (kept,)


def test_endpoints_are_listed_newest_first(store: Store) -> None:
    kept = [endpoint(f"we_{number}", created_at=NOW + number) for number in (1, 3, 2)]
    for one in kept:
        store.create_webhook(one)
    assert [one.id for one in store.list_webhooks("acme")] == ["we_3", "we_2", "we_1"]


def test_an_endpoint_is_replaced_only_while_it_is_there(store: Store) -> None:
    store.create_webhook(endpoint())
    changed = endpoint(disabled_at=NOW)
    assert store.replace_webhook(changed)
    assert store.get_webhook("acme", "we_1") == changed
    assert store.delete_webhook("acme", "we_1")
    assert not store.replace_webhook(changed), "a delivery that ends late would bring a deleted endpoint back"
    assert store.get_webhook("acme", "we_1") is None
    assert not store.delete_webhook("acme", "we_1")


def test_another_tenants_endpoints_look_missing(store: Store) -> None:
    store.create_webhook(endpoint())
    assert store.list_webhooks("globex") == ()
    assert store.get_webhook("globex", "we_1") is None
    assert not store.delete_webhook("globex", "we_1")
    assert not store.replace_webhook(endpoint(tenant="globex"))
    assert store.get_webhook("acme", "we_1") == endpoint()


def test_an_id_that_no_endpoint_could_have_is_missing(store: Store) -> None:
    for strange in ("", "x" * 300, "w\u00e9", "a\nb"):
        assert store.get_webhook("acme", strange) is None
        assert not store.delete_webhook("acme", strange)


def test_the_highest_level_that_was_told_is_remembered(store: Store) -> None:
    assert store.told_level("acme", "2026-11") == 0
    for level, known in ((50, 50), (100, 100), (80, 100), (100, 100)):
        store.note_told_level("acme", "2026-11", level)
        assert store.told_level("acme", "2026-11") == known
    assert store.told_level("acme", "2026-12") == store.told_level("globex", "2026-11") == 0
    assert store.told_level("acme", "2026-11", "key_1") == 0
    store.note_told_level("acme", "2026-11", 50, "key_1")
    assert (store.told_level("acme", "2026-11", "key_1"), store.told_level("acme", "2026-11")) == (50, 100)


def test_levels_that_are_told_at_once_leave_the_highest(store: Store) -> None:
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda level: store.note_told_level("acme", "2026-11", level), [50, 80, 100] * 4))
    assert store.told_level("acme", "2026-11") == 100
