"""New data in the embedded stack: S3's own events, through EventBridge and the queue, reach the deployed function."""

from __future__ import annotations

from typing import Any

import pytest

from spotune.contracts.rules import Arrival
from spotune.local.deployment import TENANT, client
from spotune.local.state import StackState
from spotune.store.dynamo import DynamoStore
from tests import rules
from tests.landings import rows
from tests.polling import wait_for

pytestmark = pytest.mark.embedded

RULE = "rule-embedded"


@pytest.fixture(scope="module")
def store(stack: StackState) -> DynamoStore:
    return DynamoStore(stack.table, client("dynamodb", stack.emulator_url))


@pytest.fixture(scope="module")
def s3(stack: StackState) -> Any:
    return client("s3", stack.emulator_url)


@pytest.fixture(scope="module")
def rule(stack: StackState, store: DynamoStore) -> str:
    source = {"uri": f"s3://{stack.data_bucket}/{TENANT}/in/**"}
    request = rules.rule_request(source=source, enabled=False)
    assert store.create_rule(rules.rule(id=RULE, tenant=TENANT, request=request))
    return RULE


def arrived(store: DynamoStore, name: str, states: dict[str, int]) -> list[Arrival]:
    """Once the arrivals whose keys have this name are in these states, so many in each."""

    def look() -> list[Arrival] | None:
        found = store.list_arrivals(TENANT, RULE, after=None, limit=1000).items
        named = [one for one in found if name in one.uri]
        counted = {state: sum(one.state == state for one in named) for state in states}
        return named if counted == states else None

    return wait_for(look, f"{name} in {states}")


def pending(store: DynamoStore) -> int:
    found = store.find_rule(RULE)
    assert found is not None
    return found.pending_rows


def test_a_file_is_counted_and_its_next_version_takes_its_place(
    stack: StackState, store: DynamoStore, s3: Any, rule: str
) -> None:
    key = f"{TENANT}/in/a b+c%20d é.jsonl"
    s3.put_object(Bucket=stack.data_bucket, Key=key, Body=rows(1, 2))
    (first,) = arrived(store, "a b+c%20d é", {"accepted": 1})
    assert (first.rows, first.uri) == (2, f"s3://{stack.data_bucket}/{key}")
    assert first.version_id != first.etag, "the data bucket keeps versions"
    s3.put_object(Bucket=stack.data_bucket, Key=key, Body=rows(3, 4, 5))
    arrived(store, "a b+c%20d é", {"accepted": 1, "superseded": 1})
    s3.delete_object(Bucket=stack.data_bucket, Key=key)
    arrived(store, "a b+c%20d é", {"accepted": 0, "gone": 1, "superseded": 1})
    assert pending(store) == 0


def test_uploads_in_parts_and_copies_arrive_and_the_same_bytes_count_once(
    stack: StackState, store: DynamoStore, s3: Any, rule: str
) -> None:
    key, copy = f"{TENANT}/in/parts.jsonl", f"{TENANT}/in/copy-of-parts.jsonl"
    upload = s3.create_multipart_upload(Bucket=stack.data_bucket, Key=key)["UploadId"]
    part = {"Bucket": stack.data_bucket, "Key": key, "UploadId": upload}
    etag = s3.upload_part(**part, PartNumber=1, Body=rows(*range(100, 120)))["ETag"]
    s3.complete_multipart_upload(**part, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]})
    arrived(store, "/parts", {"accepted": 1})
    s3.copy_object(Bucket=stack.data_bucket, Key=copy, CopySource={"Bucket": stack.data_bucket, "Key": key})
    arrived(store, "copy-of-parts", {"duplicate": 1})
    s3.delete_object(Bucket=stack.data_bucket, Key=key)
    arrived(store, "copy-of-parts", {"accepted": 1})


def test_a_bad_file_is_quarantined_and_our_own_writes_are_nobodys_data(
    stack: StackState, store: DynamoStore, s3: Any, rule: str
) -> None:
    s3.put_object(Bucket=stack.data_bucket, Key=f"{TENANT}/in/bad.jsonl", Body=b"nonsense\n")
    (bad,) = arrived(store, "/bad", {"quarantined": 1})
    assert bad.report_uri is not None
    s3.put_object(Bucket=stack.data_bucket, Key=f"{TENANT}/rules/x/1/training.jsonl", Body=rows(7))
    s3.put_object(Bucket=stack.data_bucket, Key=f"{TENANT}/in/last.jsonl", Body=rows(8))
    arrived(store, "/last", {"accepted": 1})
    known = store.list_arrivals(TENANT, RULE, after=None, limit=1000).items
    assert not [one for one in known if "/rules/" in one.uri]
