"""The bad days of one transaction: answers lost, a busy table, and our own write met again."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from spotune.contracts.commands import CheckDataset
from spotune.contracts.errors import Unavailable, VersionConflict
from spotune.store.dynamo import DynamoStore
from spotune.store.transaction import LONGEST_PAUSE_SECONDS, TRIES
from tests.factories import NOW, job
from tests.store.test_audit import record
from tests.store.test_contract import LIMIT, decision, found, money
from tests.store.unreliable import TIMEOUT, Unreliable, cancelled, refusal


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def make(dynamodb: Any, table: str, pauses: list[float]) -> Any:
    def store_with(*faults: Any, operation: str = "transact_write_items") -> tuple[DynamoStore, Unreliable]:
        client = Unreliable(dynamodb, operation, *faults)
        return DynamoStore(table, client, sleep=pauses.append), client

    return store_with


def test_a_lost_answer_is_success_and_the_change_is_made_once(make: Any) -> None:
    store, client = make((True, TIMEOUT), (True, TIMEOUT))
    (entry,) = store.create_job(decision(job(), CheckDataset(), said=("hello",), reserve=7), limit=LIMIT)
    assert len(client.calls) == 3
    assert money(store) == (7, 0)
    assert list(store.pending_commands(NOW + 1)) == [entry]


def test_a_lost_answer_is_success_even_after_dynamodb_forgot_the_token(make: Any, dynamodb: Any) -> None:
    """Tokens hold for ten minutes; then the condition fails, on our own write."""

    class Forgetful(Unreliable):
        def _call(self, **arguments: Any) -> Any:
            self.calls.append(arguments)
            without_memory = {**arguments, "ClientRequestToken": f"{len(self.calls)}"}
            answer = dynamodb.transact_write_items(**without_memory)
            if self.faults:
                self.faults.popleft()
                raise TIMEOUT
            return answer

    store, _ = make()
    store._client = Forgetful(dynamodb, "transact_write_items", TIMEOUT)
    store.create_job(decision(job(), said=("hello",), reserve=7), limit=LIMIT)
    assert len(store._client.calls) == 2
    assert money(store) == (7, 0)


def test_a_lost_answer_does_not_hide_that_another_was_first(make: Any) -> None:
    store, client = make()
    store.create_job(decision(job()), limit=LIMIT)
    record = found(store, job())
    store.commit(record, decision(record, said=("theirs",)), limit=LIMIT)
    client.faults.extend([TIMEOUT, TIMEOUT])
    with pytest.raises(VersionConflict):
        store.commit(record, decision(record, said=("ours",)), limit=LIMIT)
    assert [line.message for line in store.list_log("acme", record.id, after=0, limit=5).items] == ["theirs"]


@pytest.mark.parametrize(
    "fault",
    [
        cancelled("TransactionConflict"),
        cancelled("None", "TransactionConflict"),
        cancelled("ThrottlingError"),
        cancelled("ProvisionedThroughputExceeded"),
        refusal("ThrottlingException"),
        refusal("TransactionInProgressException"),
        refusal("ProvisionedThroughputExceededException"),
        refusal("InternalServerError", status=500),
        refusal("Whatever", status=503),
        EndpointConnectionError(endpoint_url="http://table"),
        TIMEOUT,
    ],
    ids=str,
)
def test_what_may_pass_is_tried_again_with_the_same_token(make: Any, pauses: list[float], fault: Exception) -> None:
    store, client = make(fault, fault)
    store.create_job(decision(job()), limit=LIMIT)
    assert found(store, job()).version == 1
    assert len(pauses) == 2
    assert len({call["ClientRequestToken"] for call in client.calls}) == 1


def test_a_table_that_stays_busy_is_unavailable_after_a_bounded_wait(make: Any, pauses: list[float]) -> None:
    store, client = make(*[cancelled("TransactionConflict")] * TRIES)
    with pytest.raises(Unavailable) as refused:
        store.create_job(decision(job()), limit=LIMIT)
    assert refused.value.code == "store_unavailable"
    assert len(client.calls) == TRIES
    assert sum(pauses) <= TRIES * LONGEST_PAUSE_SECONDS
    assert store.find_job("ftjob-abc") is None


def test_a_table_that_hangs_is_not_waited_for_ten_times(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hours = iter(range(0, 36_000, 3600))
    monkeypatch.setattr("spotune.store.transaction.monotonic", lambda: next(hours))
    store, client = make(TIMEOUT)
    with pytest.raises(Unavailable):
        store.create_job(decision(job()), limit=LIMIT)
    assert len(client.calls) == 1


@pytest.mark.parametrize("fault", [refusal("ValidationException"), cancelled("ValidationError")])
def test_what_is_wrong_in_itself_is_not_tried_again_and_not_taken_for_the_table(make: Any, fault: ClientError) -> None:
    store, client = make(fault)
    with pytest.raises(ClientError):
        store.create_job(decision(job()), limit=LIMIT)
    assert len(client.calls) == 1


@pytest.mark.parametrize("code", ["ResourceNotFoundException", "AccessDeniedException", "ExpiredTokenException"])
def test_a_table_that_lets_nobody_in_is_unavailable_at_once(make: Any, code: str) -> None:
    store, client = make(refusal(code))
    with pytest.raises(Unavailable) as refused:
        store.create_job(decision(job()), limit=LIMIT)
    assert (refused.value.code, len(client.calls)) == ("store_closed", 1)
    assert "said so" not in str(refused.value), "AWS's words name roles and tables"


def test_a_table_that_is_not_there_is_closed_to_every_kind_of_call(dynamodb: Any) -> None:
    store = DynamoStore("no-such-table", dynamodb, sleep=lambda _: None)
    for asked in (
        lambda: store.create_job(decision(job()), limit=LIMIT),
        lambda: store.find_job("ftjob-abc"),
        lambda: store.list_jobs("acme", after=None, limit=1),
        lambda: store.begin_audit(record(1)),
    ):
        with pytest.raises(Unavailable) as refused:
            asked()
        assert refused.value.code == "store_closed"


def test_two_changes_never_share_a_token(make: Any) -> None:
    store, client = make()
    for _ in range(2):
        store.create_job(decision(job(id=f"ftjob-{len(client.calls)}")), limit=LIMIT)
    assert len({call["ClientRequestToken"] for call in client.calls}) == 2


@pytest.mark.parametrize("fault", [TIMEOUT, refusal("ThrottlingException"), refusal("InternalServerError", status=500)])
def test_a_read_that_gets_no_answer_is_unavailable(make: Any, fault: Exception) -> None:
    store, _ = make(fault, operation="get_item")
    with pytest.raises(Unavailable):
        store.get_job("acme", "ftjob-abc")


def test_reads_that_guard_a_change_are_consistent(make: Any) -> None:
    store, client = make(operation="get_item")
    store.get_job("acme", "a"), store.find_job("a"), store.get_command("a", "b")
    store.get_file("acme", "a"), store.find_key("a"), store.ledger("acme", "2026-01", limit=1)
    assert [call["ConsistentRead"] for call in client.calls] == [True] * 6


def test_a_page_reads_a_page_however_many_jobs_there_are(make: Any) -> None:
    store, client = make(operation="query")
    for i in range(20):
        store.create_job(decision(job(id=f"ftjob-{i}", created_at=NOW + i)), limit=LIMIT)
    store.list_jobs("acme", after="ftjob-15", limit=3)
    assert [call["Limit"] for call in client.calls] == [4]


def test_what_is_in_flight_is_read_without_reading_what_has_ended(make: Any, dynamodb: Any, table: str) -> None:
    store, _ = make()
    for i in range(12):
        store.create_job(decision(job(id=f"ftjob-{i}", state="succeeded" if i else "queued")), limit=LIMIT)
    scanned = dynamodb.scan(TableName=table, IndexName="gsi2")
    assert scanned["ScannedCount"] == 1
    assert [one.id for one in store.active_jobs()] == ["ftjob-0"]
