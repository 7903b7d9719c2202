"""The audit log: what every store must do with it."""

from __future__ import annotations

from typing import Any

import pytest

from spotune.contracts.audit import AuditRecord
from spotune.contracts.errors import RequestRefused, Unavailable
from spotune.store import items
from spotune.store.base import Store
from spotune.store.dynamo import DynamoStore
from tests.factories import NOW
from tests.store.unreliable import TIMEOUT, Unreliable


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
    store.begin_audit(begun)
    assert store.list_audit("acme", after=None, limit=10).items == (begun,)
    ended = begun.with_(status=200, target="ftjob-1")
    store.end_audit(ended)
    assert store.list_audit("acme", after=None, limit=10).items == (ended,)


def test_a_record_that_has_its_end_is_never_changed_again(store: Store) -> None:
    ended = record(1).with_(status=200)
    store.begin_audit(record(1))
    store.end_audit(ended)
    for write in (store.begin_audit, store.end_audit):
        for other in (record(1), record(1, action="GET /"), ended.with_(status=500), ended.with_(action="GET /")):
            with pytest.raises(Unavailable):
                write(other)
    assert store.list_audit("acme", after=None, limit=10).items == (ended,)


def test_what_was_never_begun_has_no_end(store: Store) -> None:
    with pytest.raises(Unavailable):
        store.end_audit(record(1, status=200))
    assert store.list_audit("acme", after=None, limit=10).items == ()


def test_a_beginning_whose_answer_was_lost_may_be_written_again(store: Store) -> None:
    store.begin_audit(record(1))
    store.begin_audit(record(1))
    assert store.list_audit("acme", after=None, limit=10).items == (record(1),)


def test_an_end_goes_by_the_client_that_waits_for_nobody(dynamodb: Any, table: str) -> None:
    hangs = Unreliable(dynamodb, "put_item", TIMEOUT)
    store = DynamoStore(table, dynamodb, hasty=lambda: hangs)
    store.begin_audit(record(1))
    assert hangs.calls == []
    with pytest.raises(Unavailable):
        store.end_audit(record(1, status=200))
    assert len(hangs.calls) == 1


def test_pages_go_from_the_newest_to_the_oldest_without_gap_or_repeat(store: Store) -> None:
    kept = [record(number) for number in range(5)]
    for one in (kept[3], kept[0], kept[4], kept[1], kept[2]):
        store.begin_audit(one)
    seen: list[AuditRecord] = []
    after, more = None, True
    while more:
        page = store.list_audit("acme", after=after, limit=2)
        seen, more, after = [*seen, *page.items], page.has_more, page.items[-1].id
    assert seen == kept[::-1]


def test_no_tenant_reads_another_s_log_nor_goes_on_from_a_place_in_it(store: Store) -> None:
    store.begin_audit(record(1))
    assert store.list_audit("globex", after=None, limit=10).items == ()
    for after in (record(1).id, "", "audit-~", "x" * 300):
        with pytest.raises(RequestRefused):
            store.list_audit("globex", after=after, limit=10)


def test_a_record_is_forgotten_thirteen_months_later() -> None:
    expires = int(items.audit_item(record(0))["expires_at"]["N"])
    assert 395 * 86_400 < expires - NOW <= 400 * 86_400
