"""What the table's time to live takes away, and what it must never take."""

from __future__ import annotations

from typing import Any

import yaml

from spotune.contracts.identity import ApiKey
from spotune.store.dynamo import DynamoStore
from spotune.store.items import REVOKED_KEPT_SECONDS, WINDOW_KEPT_SECONDS
from tests.factories import NOW
from tests.store.conftest import TEMPLATE

KEY = ApiKey(sha256="a" * 64, tenant="acme", name="ci", created_at=NOW)


def kept(dynamodb: Any, table: str) -> dict[str, dict[str, Any]]:
    return {item["sk"]["S"]: item for item in dynamodb.scan(TableName=table)["Items"]}


def test_a_window_of_requests_is_forgotten_an_hour_after_its_end(dynamodb: Any, table: str) -> None:
    store = DynamoStore(table, dynamodb)
    for _ in range(3):
        store.count_request(KEY, int(NOW) + 60, limit=2)
    (window,) = kept(dynamodb, table).values()
    assert window["used"] == {"N": "2"}
    assert window["tenant"] == {"S": "acme"}
    assert window["expires_at"] == {"N": str(int(NOW) + 60 + WINDOW_KEPT_SECONDS)}
    assert not [name for name in window if name.startswith("gsi")], "it costs one write, in no index"


def test_a_key_is_forgotten_ninety_days_after_its_revocation_and_never_before(dynamodb: Any, table: str) -> None:
    store = DynamoStore(table, dynamodb)
    store.put_key(KEY)
    store.note_use(KEY, NOW)
    assert not [item for item in kept(dynamodb, table).values() if "expires_at" in item]
    store.put_key(KEY.with_(revoked_at=NOW))
    assert kept(dynamodb, table)["KEY"]["expires_at"] == {"N": str(int(NOW) + REVOKED_KEPT_SECONDS)}


def test_a_principal_that_is_mapped_anew_is_not_forgotten(dynamodb: Any, table: str) -> None:
    store, mapped = DynamoStore(table, dynamodb), KEY.with_(principal="arn:aws:iam::1:role/r")
    store.put_key(mapped.with_(revoked_at=NOW))
    store.put_key(mapped)
    assert "expires_at" not in kept(dynamodb, table)["KEY"]


def test_the_template_names_the_attribute_that_the_items_have() -> None:
    class Loader(yaml.SafeLoader):
        """Reads CloudFormation's tags as nothing."""

    Loader.add_multi_constructor("!", lambda *_: None)
    table = yaml.load(TEMPLATE.read_text(), Loader)["Resources"]["Table"]["Properties"]
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
