"""The store on a table that throttles, hangs, conflicts and loses answers at random: each change happens once or not at
all, and the sums hold. A failure prints the seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError

from spotune.contracts.commands import CheckDataset
from spotune.contracts.errors import Unavailable, VersionConflict
from spotune.store.base import LimitReached, Store
from spotune.store.dynamo import DynamoStore
from tests.factories import NOW, job
from tests.store.test_contract import MONTH, decision
from tests.store.test_transaction import cancelled, refusal

LIMIT = 3_000
JOBS = 6
THREADS = 4
STEPS = 25
URL = "http://table"

CANCELLED: tuple[Callable[[], Exception], ...] = (
    lambda: cancelled("TransactionConflict"),
    lambda: cancelled("None", "ThrottlingError"),
)
"""What may come instead of a transaction."""

BEFORE: tuple[Callable[[], Exception], ...] = (
    lambda: refusal("ProvisionedThroughputExceededException"),
    lambda: refusal("ThrottlingException"),
    lambda: refusal("InternalServerError", status=500),
    lambda: ConnectTimeoutError(endpoint_url=URL),
    lambda: EndpointConnectionError(endpoint_url=URL),
)
"""What may come instead of any call."""

AFTER: tuple[Callable[[], Exception], ...] = (
    lambda: ReadTimeoutError(endpoint_url=URL),
    lambda: refusal("ServiceUnavailable", status=503),
)
"""What may come instead of its answer."""


class Unlucky:
    """A client to whose calls one of these happens, with this probability each time."""

    def __init__(self, client: Any, chance: random.Random, probability: float) -> None:
        self._client = client
        self._chance = chance
        self._probability = probability
        self.faults = 0

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._client, name)

        def call(**arguments: Any) -> Any:
            if self._chance.random() < self._probability:
                self.faults += 1
                if self._chance.random() < 0.5:
                    raise self._chance.choice(BEFORE + (CANCELLED if name == "transact_write_items" else ()))()
                operation(**arguments)
                raise self._chance.choice(AFTER)()
            return operation(**arguments)

        return call


@pytest.fixture
def seed() -> int:
    number = random.randrange(10**9)
    print(f"seed {number}")
    return number


def reserve_or_settle(store: Store, number: int, word: str) -> bool:
    """One decision on one job, as the service makes it: reserve, or settle and release; True where it is known to be
    written."""
    before = store.find_job(f"ftjob-{number}")
    if before is None:
        store.create_job(decision(job(id=f"ftjob-{number}"), CheckDataset(), said=(word,)), limit=LIMIT)
        return True
    if before.reserved:
        money = {"release": before.reserved, "settle": 7, "reserved": 0, "billed": before.billed + 7}
    else:
        money = {"reserve": 100, "reserved": 100}
    store.commit(before, decision(before, said=(word,), **money), limit=LIMIT)  # type: ignore[arg-type]
    return True


def test_each_change_happens_once_or_not_at_all_whatever_the_table_does(dynamodb: Any, table: str, seed: int) -> None:
    clients = [Unlucky(dynamodb, random.Random(f"{seed}-{number}"), 0.2) for number in range(THREADS)]

    def live(number: int) -> list[str]:
        """The words that this process was told are written."""
        chance, told = random.Random(f"{seed}-jobs-{number}"), []
        store = DynamoStore(table, clients[number], sleep=lambda _: None)
        for step in range(STEPS):
            word = f"{number}-{step}"
            try:
                if reserve_or_settle(store, chance.randrange(JOBS), word):
                    told.append(word)
            except (Unavailable, VersionConflict, LimitReached):
                continue
        return told

    with ThreadPoolExecutor(THREADS) as threads:
        told = [word for words in threads.map(live, range(THREADS)) for word in words]

    store = DynamoStore(table, dynamodb)
    jobs = [one for number in range(JOBS) if (one := store.find_job(f"ftjob-{number}"))]
    said = [line.message for one in jobs for line in store.list_log("acme", one.id, after=0, limit=1000).items]
    ledger = store.ledger("acme", MONTH, limit=LIMIT)
    assert sum(client.faults for client in clients) > THREADS * STEPS / 10
    assert len(said) == len(set(said)), "a change was made twice"
    assert set(told) <= set(said), "a change that was confirmed is not there"
    assert ledger.reserved == sum(one.reserved for one in jobs)
    assert ledger.billed == sum(one.billed for one in jobs)
    for one in jobs:
        assert one.version == one.event_seq == len(store.list_log("acme", one.id, after=0, limit=1000).items)


def test_a_reservation_is_never_beyond_the_limit_whatever_the_table_does(dynamodb: Any, table: str, seed: int) -> None:
    clients = [Unlucky(dynamodb, random.Random(f"{seed}-{number}"), 0.3) for number in range(THREADS)]

    def reserve(number: int) -> None:
        store = DynamoStore(table, clients[number], sleep=lambda _: None)
        for step in range(15):
            record = job(id=f"ftjob-{number}-{step}", reserved=100)
            try:
                store.create_job(decision(record, reserve=100), limit=1050)
            except (Unavailable, LimitReached):
                continue

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(reserve, range(THREADS)))
    store = DynamoStore(table, dynamodb)
    jobs = list(store.active_jobs())
    assert store.ledger("acme", MONTH, limit=LIMIT).reserved == 100 * len(jobs) == 1000


def test_completed_commands_stay_completed_whatever_the_table_does(dynamodb: Any, table: str, seed: int) -> None:
    plain = DynamoStore(table, dynamodb)
    made = [decision(job(id=f"ftjob-{number}"), CheckDataset()) for number in range(20)]
    entries = [plain.create_job(one, limit=LIMIT)[0] for one in made]
    store = DynamoStore(table, Unlucky(dynamodb, random.Random(seed), 0.4), sleep=lambda _: None)
    for entry in entries:
        for _ in range(50):
            try:
                store.complete_command(entry)
                break
            except Unavailable:
                continue
    assert list(plain.pending_commands(NOW + 1)) == []
