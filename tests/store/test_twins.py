"""The store in memory answers as the one in DynamoDB does, whatever is asked of them in whatever order."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from spotune.contracts.commands import CheckDataset, Command
from spotune.contracts.errors import RequestRefused, VersionConflict
from spotune.contracts.job import Decision, JobRecord, PayingKey, Status
from spotune.contracts.lines import LineChange
from spotune.store.base import LedgerImbalance, LimitReached, LineFull, Store
from spotune.store.dynamo import DynamoStore
from spotune.store.memory import MemoryStore
from tests.factories import NOW, job
from tests.store.conftest import table_keys
from tests.store.test_contract import MONTH, decision, file

LIMIT = 100
JOBS = st.sampled_from([f"ftjob-{i}" for i in range(4)])
FILES = st.sampled_from([f"file-{i}" for i in range(4)])
TENANTS = st.sampled_from(["acme", "other"])
AMOUNTS = st.integers(min_value=0, max_value=60)
KEYS = st.none() | st.builds(PayingKey, id=st.just("key-1"), monthly_limit=st.just(50))
LIMITS = st.integers(min_value=1, max_value=3)
MOVES = st.builds(
    LineChange,
    line=st.sampled_from("ab"),
    held=st.integers(-1, 2),
    waiting=st.integers(-1, 1),
    in_turn=st.booleans(),
)
EXPECTED = (LedgerImbalance, LimitReached, LineFull, RequestRefused, VersionConflict, ValueError)


class Twins(RuleBasedStateMachine):
    """Every call goes to both stores; both answer or refuse alike."""

    make: Callable[[], tuple[Store, Store]]

    def __init__(self) -> None:
        super().__init__()
        self.memory, self.dynamo = type(self).make()
        self.known: list[JobRecord] = []

    def both(self, act: Callable[[Store], Any]) -> Any:
        results = [outcome(act, store) for store in (self.memory, self.dynamo)]
        assert results[0] == results[1]
        return results[0]

    @rule(job_id=JOBS, tenant=TENANTS, at=st.integers(0, 3), reserve=AMOUNTS, key=KEYS)
    def create(self, job_id: str, tenant: str, at: int, reserve: int, key: PayingKey | None) -> None:
        record = job(id=job_id, tenant=tenant, created_at=NOW + at, updated_at=NOW + at, key=key)
        asked = decision(record, CheckDataset(), said=("made",), reserve=reserve)
        self.both(lambda store: store.create_job(asked, limit=LIMIT))
        self.remember(job_id)

    @rule(
        pick=st.integers(0, 1000),
        state=st.sampled_from(["queued", "running", "failed"]),
        amounts=st.tuples(AMOUNTS, AMOUNTS, AMOUNTS),
        lines=st.integers(0, 2),
        commands=st.integers(0, 2),
        moved=st.lists(MOVES, max_size=2, unique_by=lambda move: move.line).map(tuple),
    )
    def commit(
        self,
        pick: int,
        state: str,
        amounts: tuple[int, int, int],
        lines: int,
        commands: int,
        moved: tuple[LineChange, ...],
    ) -> None:
        """On any version that was ever seen: mostly old ones."""
        if not self.known:
            return
        before = self.known[-1 - pick % len(self.known)]
        ordered: tuple[Command, ...] = (CheckDataset(),) * commands
        reserve, release, settle = amounts
        asked: Decision = decision(
            before,
            *ordered,
            said=("x",) * lines,
            reserve=reserve,
            release=release,
            settle=settle,
            lines=moved,
            state=state,
        )
        self.both(lambda store: store.commit(before, asked, limit=LIMIT, places={"a": 2}))
        self.remember(before.id)

    @rule(tenant=TENANTS, after=st.none() | JOBS, limit=LIMITS, status=st.sampled_from([None, "queued", "running"]))
    def list_jobs(self, tenant: str, after: str | None, limit: int, status: Status | None) -> None:
        self.both(lambda store: store.list_jobs(tenant, after=after, limit=limit, status=status))

    @rule(tenant=TENANTS, job_id=JOBS, after=st.integers(0, 5), limit=LIMITS)
    def list_log(self, tenant: str, job_id: str, after: int, limit: int) -> None:
        self.both(lambda store: store.list_log(tenant, job_id, after=after, limit=limit))

    @rule(tenant=TENANTS, file_id=FILES, at=st.integers(0, 2))
    def put_file(self, tenant: str, file_id: str, at: int) -> None:
        self.both(lambda store: store.put_file(file(file_id, tenant=tenant, created_at=NOW + at)))

    @rule(tenant=TENANTS, file_id=FILES)
    def delete_file(self, tenant: str, file_id: str) -> None:
        self.both(lambda store: store.delete_file(tenant, file_id))

    @rule(tenant=TENANTS, after=st.none() | FILES, limit=LIMITS, ascending=st.booleans())
    def list_files(self, tenant: str, after: str | None, limit: int, ascending: bool) -> None:
        self.both(lambda store: store.list_files(tenant, after=after, limit=limit, ascending=ascending))

    @rule(at=st.integers(0, 4))
    def complete_the_oldest_command(self, at: int) -> None:
        entries = self.both(lambda store: list(store.pending_commands(NOW + at)))
        if entries:
            self.both(lambda store: store.complete_command(entries[0]))
            self.both(lambda store: store.get_command(entries[0].job_id, entries[0].id))

    @invariant()
    def all_that_can_be_read_is_the_same(self) -> None:
        self.both(lambda store: list(store.active_jobs()))
        self.both(lambda store: list(store.lines()))
        self.both(lambda store: [tally for _, tally in store.ledgers(MONTH)])
        for tenant in ("acme", "other"):
            ledger = self.both(lambda store, tenant=tenant: store.ledger(tenant, MONTH, limit=LIMIT))
            assert ledger.reserved >= 0

    def remember(self, job_id: str) -> None:
        record = self.both(lambda store: store.find_job(job_id))
        if record is not None and record not in self.known:
            self.known.append(record)


def outcome(act: Callable[[Store], Any], store: Store) -> Any:
    """What came out: the answer, or the kind and words of the refusal."""
    try:
        return act(store)
    except EXPECTED as refusal:
        return type(refusal), str(refusal)


def test_the_twins_answer_alike(dynamodb: Any) -> None:
    tables: list[str] = []

    def make() -> tuple[Store, Store]:
        tables.append(f"twins-{uuid.uuid4().hex[:8]}")
        dynamodb.create_table(TableName=tables[-1], BillingMode="PAY_PER_REQUEST", **table_keys())
        return MemoryStore(), DynamoStore(tables[-1], dynamodb)

    class Machine(Twins):
        pass

    Machine.make = staticmethod(make)
    run_state_machine_as_test(
        Machine,
        settings=settings(max_examples=10, stateful_step_count=20, suppress_health_check=list(HealthCheck)),
    )
    for name in tables:
        dynamodb.delete_table(TableName=name)
