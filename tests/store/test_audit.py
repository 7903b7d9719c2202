"""The audit log: what every store must do with it."""

from __future__ import annotations

import pytest

from spotune.contracts.audit import AuditRecord
from spotune.contracts.errors import RequestRefused
from spotune.store import items
from spotune.store.base import Store
from tests.factories import NOW


def record(number: int, **changes: object) -> AuditRecord:
    values: dict[str, object] = {
        "id": f"audit-{number:016d}-0badcafe",
        "tenant": "acme",
        "at": NOW + number,
        "actor": "key-1",
        "actor_name": "ci",
        "action": "POST /v1/fine_tuning/jobs",
        "request_id": "request-1",
    }
    return AuditRecord.model_validate({**values, **changes})


def test_a_record_is_listed_as_it_was_and_its_end_replaces_its_beginning(store: Store) -> None:
    begun = record(1)
    store.put_audit(begun)
    assert store.list_audit("acme", after=None, limit=10).items == (begun,)
    ended = begun.with_(status=200, target="ftjob-1")
    store.put_audit(ended)
    assert store.list_audit("acme", after=None, limit=10).items == (ended,)


def test_pages_go_from_the_newest_to_the_oldest_without_gap_or_repeat(store: Store) -> None:
    kept = [record(number) for number in range(5)]
    for one in (kept[3], kept[0], kept[4], kept[1], kept[2]):
        store.put_audit(one)
    seen: list[AuditRecord] = []
    after, more = None, True
    while more:
        page = store.list_audit("acme", after=after, limit=2)
        seen, more, after = [*seen, *page.items], page.has_more, page.items[-1].id
    assert seen == kept[::-1]


def test_no_tenant_reads_another_s_log_nor_goes_on_from_a_place_in_it(store: Store) -> None:
    store.put_audit(record(1))
    assert store.list_audit("globex", after=None, limit=10).items == ()
    for after in (record(1).id, "", "audit-~", "x" * 300):
        with pytest.raises(RequestRefused):
            store.list_audit("globex", after=after, limit=10)


def test_a_record_is_forgotten_thirteen_months_later() -> None:
    expires = int(items.audit_item(record(0))["expires_at"]["N"])
    assert 395 * 86_400 < expires - NOW <= 400 * 86_400
