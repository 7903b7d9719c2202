"""Processes that race for the same items, each with a client of its own, against one table that is atomic."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import boto3
import pytest

from spotune.contracts.commands import CheckDataset
from spotune.contracts.errors import VersionConflict
from spotune.contracts.job import Decision, JobRecord
from spotune.contracts.lines import LineChange
from spotune.store.base import LimitReached, LineFull, Store
from spotune.store.dynamo import DynamoStore
from tests.emulator import credentials
from tests.factories import NOW, job
from tests.store.test_contract import created, decision, found, money

PROCESSES = 4
ROUNDS = 12
PATIENCE = 120
ALIKE = "ftjob-all-the-same"

_here: dict[str, Any] = {}
"""What each of the racing processes has: its store, and the barrier at which all begin."""


def enter(url: str, table: str, barrier: Any) -> None:
    _here["store"] = DynamoStore(table, boto3.client("dynamodb", **credentials(url)))
    _here["barrier"] = barrier


@pytest.fixture(scope="module")
def racers(emulator: str, made_table: str) -> Iterator[ProcessPoolExecutor]:
    spawn = multiprocessing.get_context("spawn")
    arguments = (emulator, made_table, spawn.Barrier(PROCESSES))
    with ProcessPoolExecutor(PROCESSES, spawn, enter, arguments) as pool:
        yield pool


@pytest.fixture
def store(table: str, dynamodb: Any) -> Store:
    return DynamoStore(table, dynamodb)


def race(racers: ProcessPoolExecutor, act: Callable[[Store, int], str]) -> Counter[str]:
    """Let each process do it in every round, beginning at once; how often each result came."""
    results = [racers.submit(take_part, act, number) for number in range(PROCESSES)]
    return Counter(one for result in results for one in result.result(PATIENCE))


def take_part(act: Callable[[Store, int], str], number: int) -> list[str]:
    _here["barrier"].wait(PATIENCE)
    return [act(_here["store"], number * ROUNDS + turn) for turn in range(ROUNDS)]


def write(store: Store, before: JobRecord | None, made: Decision, limit: int = 10**9, **places: int) -> str:
    """Create or commit; "written", or the name of what refused. Limits are spelled here alone."""
    try:
        if before is None:
            store.create_job(made, limit=limit, places=places)
        else:
            store.commit(before, made, limit=limit, places=places)
    except (VersionConflict, LimitReached, LineFull) as refusal:
        return type(refusal).__name__
    return "written"


def on_the_same_version(store: Store, number: int) -> str:
    record = job(id=f"ftjob-{number % ROUNDS}", version=1)
    return write(store, record, decision(record, CheckDataset(), said=("x",), reserve=10, state="queued"))


def test_of_commits_on_one_version_exactly_one_wins(racers: ProcessPoolExecutor, store: Store) -> None:
    records = [created(store, id=f"ftjob-{number}") for number in range(ROUNDS)]
    results = race(racers, on_the_same_version)
    assert results == {"written": ROUNDS, "VersionConflict": ROUNDS * (PROCESSES - 1)}
    assert {found(store, record).version for record in records} == {2}
    assert money(store) == (10 * ROUNDS, 0)
    assert len(list(store.pending_commands(NOW + 1))) == ROUNDS


def until_it_is_said(store: Store, number: int) -> str:
    while True:
        now = store.get_job("acme", ALIKE)
        assert now is not None
        if write(store, now, decision(now, said=(str(number),))) == "written":
            return "said"


def test_all_who_decide_anew_get_through_and_the_log_has_no_gap(racers: ProcessPoolExecutor, store: Store) -> None:
    record = created(store, id=ALIKE)
    assert race(racers, until_it_is_said) == {"said": PROCESSES * ROUNDS}
    lines = store.list_log("acme", ALIKE, after=0, limit=1000).items
    assert [line.sequence for line in lines] == list(range(PROCESSES * ROUNDS, 0, -1))
    assert {line.message for line in lines} == {str(number) for number in range(PROCESSES * ROUNDS)}
    assert found(store, record).version == 1 + PROCESSES * ROUNDS


def a_reservation(store: Store, number: int) -> str:
    record = job(id=f"ftjob-{number}", version=1)
    return write(store, record, decision(record, reserve=100), limit=1050)


def test_reservations_never_pass_a_tenants_limit(racers: ProcessPoolExecutor, store: Store) -> None:
    for number in range(PROCESSES * ROUNDS):
        created(store, id=f"ftjob-{number}")
    assert race(racers, a_reservation) == {"written": 10, "LimitReached": PROCESSES * ROUNDS - 10}
    assert money(store) == (1000, 0)


def a_place(store: Store, number: int) -> str:
    record = job(id=f"ftjob-{number}", version=1)
    return write(store, record, decision(record, lines=(LineChange(line="a", held=1),)), a=7)


def test_a_line_never_has_more_in_it_than_places(racers: ProcessPoolExecutor, store: Store) -> None:
    for number in range(PROCESSES * ROUNDS):
        created(store, id=f"ftjob-{number}")
    assert race(racers, a_place) == {"written": 7, "LineFull": PROCESSES * ROUNDS - 7}


def a_creation(store: Store, number: int) -> str:
    return write(store, None, decision(job(id=f"ftjob-{number % ROUNDS}"), CheckDataset(), reserve=10))


def test_of_creations_of_one_job_exactly_one_wins(racers: ProcessPoolExecutor, store: Store) -> None:
    results = race(racers, a_creation)
    assert results == {"written": ROUNDS, "VersionConflict": ROUNDS * (PROCESSES - 1)}
    assert money(store) == (10 * ROUNDS, 0)
    assert len(list(store.active_jobs())) == ROUNDS


def a_command(store: Store, number: int, ids: tuple[str, ...] = ()) -> str:
    entry = store.get_command(f"ftjob-{number % ROUNDS}", ids[number % ROUNDS])
    if entry is None:
        return "done before"
    store.complete_command(entry)
    return "done"


def test_a_command_that_all_complete_is_off_the_outbox_once_and_for_all(
    racers: ProcessPoolExecutor, store: Store
) -> None:
    made = [decision(job(id=f"ftjob-{number}"), CheckDataset()) for number in range(ROUNDS)]
    ids = tuple(store.create_job(one, limit=10**9)[0].id for one in made)
    results = race(racers, partial(a_command, ids=ids))
    assert results["done"] >= ROUNDS
    assert results.total() == PROCESSES * ROUNDS
    assert list(store.pending_commands(NOW + 1)) == []
