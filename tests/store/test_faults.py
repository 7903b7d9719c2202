"""The store on a table that throttles, hangs, conflicts and loses answers at random: each change happens once or not at
all, and the sums hold. A failure prints the seed."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError

from spotune.contracts.commands import CheckDataset
from spotune.contracts.errors import Unavailable, VersionConflict
from spotune.contracts.models import ModelGroup
from spotune.lifecycle import registry
from spotune.retraining.arrivals import Checked, accept
from spotune.retraining.course import Ending, begin, ended
from spotune.retraining.due import Wait, by_hand
from spotune.store.base import LimitReached, Store
from spotune.store.dynamo import DynamoStore
from tests.factories import NOW, job, model_version
from tests.rules import arrival, rule, rule_request
from tests.store.test_contract import MONTH, decision
from tests.store.unreliable import cancelled, refusal

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


def test_arrivals_are_numbered_without_gaps_and_counted_once_whatever_the_table_does(
    dynamodb: Any, table: str, seed: int
) -> None:
    plain = DynamoStore(table, dynamodb)
    assert plain.create_rule(rule())
    clients = [Unlucky(dynamodb, random.Random(f"{seed}-{number}"), 0.2) for number in range(THREADS)]
    names = [f"{number}.jsonl" for number in range(12)]

    def count(number: int) -> None:
        """Every file, each of which the others count at the same time, until it is known to be counted."""
        store = DynamoStore(table, clients[number], sleep=lambda _: None)
        left = deque(random.Random(f"{seed}-order-{number}").sample(names, len(names)))
        while left:
            try:
                known = store.record_arrival(arrival(left[0]))
                now = store.find_rule("rule-support")
                assert now is not None
                of_bytes = partial(store.arrivals_of_bytes, now.id)
                same = store.arrivals_of_object(now.id, known.uri)
                known = store.get_arrival(now.id, known.uri, "v1") or known
                checked = Checked(f"{names.index(left[0]):064d}", 7, "s3://hashes", "chat")
                change = accept(now, known, checked, same, of_bytes, NOW)
                if not change.empty:
                    store.commit_arrivals(now, change.rule, change.arrivals)
                left.popleft()
            except (Unavailable, VersionConflict):
                left.rotate()

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(count, range(THREADS)))
    counted = list(plain.accepted_arrivals("rule-support", after=0, through=100))
    after = plain.find_rule("rule-support")
    assert after is not None
    assert sum(client.faults for client in clients) > 10
    assert [one.sequence for one in counted] == list(range(1, len(names) + 1))
    assert len({one.uri for one in counted}) == len(names)
    assert (after.sequence, after.pending_rows) == (len(names), 7 * len(names))
    assert {one.state for one in plain.list_arrivals("acme", after.id, after=None, limit=50).items} == {"accepted"}


def test_one_retraining_lives_whatever_the_table_does(dynamodb: Any, table: str, seed: int) -> None:
    plain = DynamoStore(table, dynamodb)
    trigger = {"min_rows": 1, "min_interval_seconds": 0, "max_per_day": 1000}
    pending = {"pending_rows": 5, "sequence": 1}
    assert plain.create_rule(rule(request=rule_request(trigger=trigger), **pending))
    clients = [Unlucky(dynamodb, random.Random(f"{seed}-{number}"), 0.2) for number in range(THREADS)]

    def fire_and_end(number: int) -> None:
        store = DynamoStore(table, clients[number], sleep=lambda _: None)
        for _ in range(STEPS):
            try:
                now = store.find_rule("rule-support")
                assert now is not None
                live = None if now.live is None else store.get_retraining("acme", now.id, now.live)
                if live is None:
                    if not isinstance(by_hand(now, 1, NOW), Wait):
                        store.begin_retraining(now, *begin(now, "person", 1, NOW))
                    continue
                after, over = ended(now, live, Ending("failed", ""), (arrival(state="accepted", rows=5),), NOW)
                store.commit_retraining(live, over, (now, after))
            except (Unavailable, VersionConflict):
                continue

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(fire_and_end, range(THREADS)))
    after = plain.find_rule("rule-support")
    assert after is not None
    begun = plain.list_retrainings("acme", after.id, after=0, limit=1000).items
    assert [one.number for one in begun] == list(range(after.retrainings, 0, -1))
    assert len(begun) > 1
    assert [one.number for one in begun if not one.ended] == ([] if after.live is None else [after.live])


def test_a_group_has_one_champion_and_each_change_of_it_once_whatever_the_table_does(
    dynamodb: Any, table: str, seed: int
) -> None:
    plain = DynamoStore(table, dynamodb)
    fresh = ModelGroup(name="support", tenant="acme", created_at=NOW, versions=5)
    plain.commit_group(None, fresh, tuple((None, model_version(number)) for number in range(1, 6)))
    clients = [Unlucky(dynamodb, random.Random(f"{seed}-{number}"), 0.2) for number in range(THREADS)]

    def live(number: int) -> list[str]:
        """The reasons of the promotions that this process was told are written."""
        chance, told = random.Random(f"{seed}-acts-{number}"), []
        store = DynamoStore(table, clients[number], sleep=lambda _: None)
        for step in range(STEPS):
            try:
                if promote(store, chance.randrange(1, 6), f"{number}-{step}"):
                    told.append(f"{number}-{step}")
            except (Unavailable, VersionConflict):
                continue
        return told

    with ThreadPoolExecutor(THREADS) as threads:
        told = [why for reasons in threads.map(live, range(THREADS)) for why in reasons]

    group = plain.get_group("acme", "support")
    versions = plain.list_versions("acme", "support", after=0, limit=9).items
    assert group is not None
    reasons = [change.why for change in group.history]
    assert len(reasons) == len(set(reasons)) == group.version - 1, "a change was made twice"
    assert set(told) <= set(reasons), "a change that was confirmed is not there"
    assert [version.number for version in versions if version.status == "champion"] == [group.champion]
    assert [change.before for change in group.history] == [None, *(change.number for change in group.history[:-1])]


def promote(store: Store, number: int, why: str) -> bool:
    """As the service makes it: what was read guards what is written; True where it is known to be written."""
    group = store.get_group("acme", "support")
    assert group is not None
    champion = None if group.champion is None else store.get_version("acme", "support", group.champion)
    version = store.get_version("acme", "support", number)
    assert version is not None
    move = registry.promote(group, champion, version, registry.Act(by="key-1", at=NOW, why=why))
    if move is None:
        return False
    read = {one.number: one for one in (version, champion) if one is not None}
    store.commit_group(group, move.group, tuple((read[one.number], one) for one in move.versions))
    return True
