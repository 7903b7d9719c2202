"""`make bench-control`: how much the control plane takes, and what its reads grow with."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import Any

from benchmarks.api import JOBS, ROWS
from benchmarks.embedded_load import through_embedded_mode
from benchmarks.report import Figure, finish, log_elsewhere, milliseconds, percentile
from spotune.contracts.job import Decision
from spotune.contracts.lines import tenant_line
from spotune.lifecycle import decide, open_prepared
from spotune.service.installation import install
from spotune.service.reconcile import reconcile
from spotune.store.memory import MemoryStore
from tests import tiny_model
from tests.factories import NOW, job, observed, prepared
from tests.in_process import Client, World, client_of, world
from tests.tiny_model import chat_rows

QUEUED, ENDED = 10_000, 10_000
"""Jobs in the store: waiting, and in a terminal state."""
OPEN = 100
"""Jobs that the reconciler has to look at in each pass."""
SUBMISSIONS = 300
DECISIONS = 5_000


def main() -> None:
    """Measure everything and print it."""
    log_elsewhere()
    finish("control", [*submitting(), deciding(), *many_jobs(), *through_embedded_mode()])


def submitting() -> list[Figure]:
    """Submissions through the handler in this process, one after another."""
    made = world(monthly_limit_usd=1e6)
    install(made.here)
    caller, body = _caller(made)
    start = time.perf_counter()
    for number in range(SUBMISSIONS):
        answer = caller.call("POST", JOBS, body, idempotency_key=f"key-{number}")
        assert answer.status == 200, answer.raw
    return [Figure("submissions, in process", SUBMISSIONS / (time.perf_counter() - start), "a second")]


def deciding() -> Figure:
    """Decisions on one job: accepted, running, interrupted, running, and so on."""
    record = open_prepared(job(), prepared(), NOW).job
    start = time.perf_counter()
    for number in range(DECISIONS):
        secondary = "Training" if number % 2 else "Interrupted"
        decision = decide(record, observed(secondary_status=secondary, interruptions=(number + 2) // 2), NOW + number)
        assert decision is not None
        record = decision.job.with_(event_seq=0)
    return Figure("decisions", DECISIONS / (time.perf_counter() - start), "a second")


def many_jobs() -> list[Figure]:
    """Pages of lists, and a reconciler's pass, with many jobs in the store."""
    made = world(monthly_limit_usd=1e6, jobs_per_tenant=0)
    install(made.here)
    caller, _ = _caller(made)
    queued = open_prepared(job(), prepared(), NOW, full_line=tenant_line("acme")).job.with_(event_seq=0)
    _fill(made.store, queued, QUEUED, "queued")
    first = milliseconds(lambda: caller.call("GET", JOBS, query="limit=20"), 40)
    middle = f"limit=20&after=ftjob-queued-{QUEUED // 2}"
    of_one_status = milliseconds(lambda: caller.call("GET", JOBS, query=f"{middle}&status=queued"), 40)
    deep = milliseconds(lambda: caller.call("GET", JOBS, query=middle), 40)
    before = _reads(made)
    _fill(made.store, queued.with_(state="succeeded", line="", finished_at=NOW), ENDED, "ended")
    after = _reads(made)
    _fill(made.store, queued.with_(line="", waiting_for="capacity of ml.g5.xlarge (spot)"), OPEN, "open")
    more = _reads(made)
    return [
        Figure(f"first page of 20 of {QUEUED:,} jobs, p95", percentile(first, 0.95), "ms", 50),
        Figure("a page in their middle, p95", percentile(deep, 0.95), "ms", 50),
        Figure("the same of one status, p95", percentile(of_one_status, 0.95), "ms", 50),
        Figure(f"records read in a pass over {QUEUED:,} jobs in line", before, "reads"),
        Figure(f"the same with {ENDED:,} ended ones beside them", after, "reads", before),
        Figure(f"and with {OPEN} more that stand in no line", more, "reads", before + 2 * OPEN),
    ]


def _caller(made: World) -> tuple[Client, dict[str, Any]]:
    caller = client_of(made.here, "acme")
    file_id = caller.upload(chat_rows(ROWS))
    return caller, {"model": tiny_model.NAME, "training_file": file_id, "constraints": {"budget_usd": 1}}


def _fill(store: MemoryStore, record: Any, count: int, name: str) -> None:
    for number in range(count):
        one = record.with_(id=f"ftjob-{name}-{number}", tenant="acme", created_at=NOW + number)
        store.create_job(Decision(job=one), limit=10**15)


def _reads(made: World) -> int:
    """Reads of single jobs in one pass of the reconciler."""
    counted = _Counting(made.store)
    reconcile(replace(made.here, store=counted))  # type: ignore[arg-type]
    return counted.calls["find_job"]


class _Counting:
    """A store whose calls are counted by name."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        self.calls[name] += 1
        return getattr(self._store, name)


if __name__ == "__main__":
    main()
