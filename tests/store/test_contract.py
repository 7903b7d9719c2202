"""What every store must do, held against the one in memory and the one in DynamoDB (on an emulator that is atomic)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from spotune.contracts.commands import CheckDataset, Command, StartAttempt, StopAttempt
from spotune.contracts.errors import RequestRefused, TooLarge, VersionConflict
from spotune.contracts.files import FileRecord
from spotune.contracts.history import FinishedRun
from spotune.contracts.identity import ApiKey, TenantLedger
from spotune.contracts.job import Decision, JobRecord, LedgerChange, LogEvent, PayingKey
from spotune.contracts.lines import LineChange, LineState
from spotune.contracts.money import month_of
from spotune.lifecycle import open_prepared
from spotune.store.base import LedgerImbalance, LimitReached, LineFull, Store
from tests.factories import NOW, finished_run, job, prepared, report

LIMIT = 100_000_000
MONTH = month_of(NOW)


def decision(
    record: JobRecord,
    *commands: Command,
    said: tuple[str, ...] = (),
    reserve: int = 0,
    release: int = 0,
    settle: int = 0,
    month: str = MONTH,
    run: FinishedRun | None = None,
    lines: tuple[LineChange, ...] = (),
    **changes: object,
) -> Decision:
    """A decision on a job that says these lines, moves this money, and takes or gives back these places."""
    first = record.event_seq + 1
    log = tuple(
        LogEvent(job_id=record.id, sequence=first + i, created_at=NOW, level="info", message=line)
        for i, line in enumerate(said)
    )
    return Decision(
        job=record.with_(event_seq=record.event_seq + len(said), **changes),
        commands=commands,
        ledgers=(LedgerChange(month=month, reserve=reserve, release=release, settle=settle),),
        lines=lines,
        log=log,
        run=run,
    )


def created(store: Store, **changes: object) -> JobRecord:
    """A job that the store has."""
    record = job(**changes)
    store.create_job(decision(record), limit=LIMIT)
    return found(store, record)


def found(store: Store, record: JobRecord) -> JobRecord:
    kept = store.get_job(record.tenant, record.id)
    assert kept is not None
    return kept


def file(file_id: str, **changes: object) -> FileRecord:
    values: dict[str, object] = {
        "id": file_id,
        "tenant": "acme",
        "filename": "a.jsonl",
        "bytes": 10,
        "created_at": NOW,
        "status": "processed",
        "uri": f"s3://data/acme/files/{file_id}/a.jsonl",
    }
    return FileRecord.model_validate({**values, **changes})


class TestJobs:
    def test_a_new_job_is_read_back_as_it_was_with_version_1(self, store: Store) -> None:
        record = job(plan=prepared().plan, config=prepared().config, training=prepared().training, report=report())
        store.create_job(decision(record), limit=LIMIT)
        assert store.get_job("acme", record.id) == store.find_job(record.id) == record.with_(version=1)

    def test_values_that_json_has_no_word_for_survive(self, store: Store) -> None:
        diverged = report(tuned=report().tuned.with_(eval_loss=float("inf"), perplexity=float("inf")))
        assert created(store, report=diverged).report == diverged

    def test_a_second_job_of_the_same_id_is_a_conflict_and_changes_nothing(self, store: Store) -> None:
        first = created(store)
        second = decision(job(cap=1), CheckDataset(), said=("again",), reserve=5)
        with pytest.raises(VersionConflict):
            store.create_job(second, limit=LIMIT)
        assert found(store, first) == first
        assert store.list_log("acme", first.id, after=0, limit=10).items == ()
        assert list(store.pending_commands(NOW + 1)) == []
        assert store.ledger("acme", MONTH, limit=LIMIT).reserved == 0

    def test_a_job_id_of_another_tenant_is_a_conflict(self, store: Store) -> None:
        first = created(store)
        with pytest.raises(VersionConflict):
            store.create_job(decision(job(tenant="other")), limit=LIMIT)
        assert found(store, first) == first

    def test_a_commit_raises_the_version_by_one(self, store: Store) -> None:
        record = created(store)
        store.commit(record, decision(record, state="queued"), limit=LIMIT)
        assert found(store, record) == record.with_(state="queued", version=2)

    def test_a_commit_on_an_old_version_is_a_conflict_and_changes_nothing(self, store: Store) -> None:
        old = created(store)
        store.commit(old, decision(old, said=("one",), state="queued"), limit=LIMIT)
        now = found(store, old)
        with pytest.raises(VersionConflict):
            store.commit(old, decision(old, CheckDataset(), said=("two",), reserve=5, state="failed"), limit=LIMIT)
        assert found(store, old) == now
        assert [line.message for line in store.list_log("acme", old.id, after=0, limit=10).items] == ["one"]
        assert list(store.pending_commands(NOW + 1)) == []
        assert store.ledger("acme", MONTH, limit=LIMIT).reserved == 0

    def test_a_commit_on_a_job_that_is_not_there_is_a_conflict(self, store: Store) -> None:
        record = job(version=1)
        with pytest.raises(VersionConflict):
            store.commit(record, decision(record), limit=LIMIT)

    def test_a_stale_decision_is_a_conflict_even_where_the_money_is_out(self, store: Store) -> None:
        old = created(store)
        store.commit(old, decision(old), limit=LIMIT)
        with pytest.raises(VersionConflict):
            store.commit(old, decision(old, reserve=LIMIT + 1), limit=LIMIT)

    @pytest.mark.parametrize("change", [{"tenant": "other"}, {"id": "ftjob-z"}, {"created_at": NOW + 1}])
    def test_a_job_keeps_its_identity(self, store: Store, change: dict[str, object]) -> None:
        record = created(store)
        with pytest.raises(ValueError, match="cannot write"):
            store.commit(record, decision(record.with_(**change)), limit=LIMIT)

    def test_a_record_too_large_is_refused_by_name_and_nothing_is_written(self, store: Store) -> None:
        noise = random.Random(1).randbytes(600_000).hex()
        record = created(store)
        with pytest.raises(TooLarge) as refusal:
            store.commit(record, decision(record, said=("x",), reserve=1, gate_verdict=noise), limit=LIMIT)
        assert refusal.value.code == "record_too_large"
        assert found(store, record) == record
        assert store.ledger("acme", MONTH, limit=LIMIT).reserved == 0

    def test_a_large_record_that_compresses_is_kept(self, store: Store) -> None:
        record = created(store, gate_verdict="held-out loss " * 100_000)
        assert found(store, record).gate_verdict == "held-out loss " * 100_000

    def test_a_change_of_more_records_than_a_transaction_holds_is_refused(self, store: Store) -> None:
        record = created(store)
        with pytest.raises(TooLarge):
            store.commit(record, decision(record, said=("line",) * 100), limit=LIMIT)

    @pytest.mark.parametrize("strange", ["", "x" * 5000, "a#b", "\x00", "ftjob-\u00e9", "\ud800"])
    def test_a_strange_id_is_a_missing_thing(self, store: Store, strange: str) -> None:
        assert store.get_job("acme", strange) is None
        assert store.find_job(strange) is None
        assert store.get_file("acme", strange) is None
        assert store.delete_file("acme", strange) is False
        assert store.get_command(strange, strange) is None
        assert store.find_key(strange) is None
        assert store.list_log("acme", strange, after=0, limit=5).items == ()


class TestJobLists:
    def test_jobs_are_listed_newest_first_page_by_page(self, store: Store) -> None:
        for i in range(5):
            created(store, id=f"ftjob-{i}", created_at=NOW + i)
        first = store.list_jobs("acme", after=None, limit=2)
        second = store.list_jobs("acme", after=first.items[-1].id, limit=2)
        third = store.list_jobs("acme", after=second.items[-1].id, limit=2)
        assert [[r.id[-1] for r in page.items] for page in (first, second, third)] == [["4", "3"], ["2", "1"], ["0"]]
        assert [page.has_more for page in (first, second, third)] == [True, True, False]

    def test_jobs_of_the_same_moment_are_all_listed_once(self, store: Store) -> None:
        for i in range(5):
            created(store, id=f"ftjob-{i}")
        seen: list[str] = []
        page = store.list_jobs("acme", after=None, limit=2)
        seen += (r.id for r in page.items)
        while page.has_more:
            page = store.list_jobs("acme", after=seen[-1], limit=2)
            seen += (r.id for r in page.items)
        assert sorted(seen) == [f"ftjob-{i}" for i in range(5)]

    def test_a_page_that_holds_all_has_no_more(self, store: Store) -> None:
        created(store)
        assert store.list_jobs("acme", after=None, limit=1).has_more is False
        assert store.list_jobs("nobody", after=None, limit=1).items == ()

    def test_a_page_of_heavy_jobs_is_whole(self, store: Store) -> None:
        """DynamoDB ends a query's answer at 1 MB."""
        for i in range(8):
            noise = random.Random(i).randbytes(170_000).hex()
            created(store, id=f"ftjob-{i}", created_at=NOW + i, gate_verdict=noise)
        assert len(store.list_jobs("acme", after=None, limit=10).items) == 8

    @pytest.mark.parametrize("after", ["ftjob-none", "", "\x00", "x" * 3000])
    def test_an_unknown_cursor_is_refused(self, store: Store, after: str) -> None:
        with pytest.raises(RequestRefused) as refusal:
            store.list_jobs("acme", after=after, limit=2)
        assert (refusal.value.code, refusal.value.param) == ("unknown_cursor", "after")

    def test_a_changed_job_stays_in_its_place(self, store: Store) -> None:
        old = created(store, id="ftjob-old")
        created(store, id="ftjob-new", created_at=NOW + 1)
        store.commit(old, decision(old, state="queued", updated_at=NOW + 9), limit=LIMIT)
        assert [r.id for r in store.list_jobs("acme", after=None, limit=5).items] == ["ftjob-new", "ftjob-old"]

    def test_jobs_of_one_status_page_by_page_wherever_the_one_before_has_gone(self, store: Store) -> None:
        states = ["queued", "running", "starting", "failed", "queued"]
        records = [created(store, id=f"ftjob-{i}", created_at=NOW + i, state=s) for i, s in enumerate(states)]
        first = store.list_jobs("acme", after=None, limit=2, status="queued")
        assert ([r.id[-1] for r in first.items], first.has_more) == (["4", "2"], True)
        store.commit(records[2], decision(records[2], state="running"), limit=LIMIT)
        second = store.list_jobs("acme", after=first.items[-1].id, limit=2, status="queued")
        assert ([r.id[-1] for r in second.items], second.has_more) == (["0"], False)
        running = store.list_jobs("acme", after=None, limit=5, status="running")
        assert [r.id[-1] for r in running.items] == ["2", "1"]
        assert store.list_jobs("acme", after=None, limit=5, status="paused").items == ()
        assert store.list_jobs("other", after=None, limit=5, status="queued").items == ()


class TestTenants:
    def test_a_tenant_sees_nothing_of_another(self, store: Store) -> None:
        record = created(store)
        store.commit(record, decision(record, said=("secret",)), limit=LIMIT)
        store.put_file(file("file-a"))
        assert store.get_job("other", record.id) is None
        assert store.get_file("other", "file-a") is None
        assert store.list_jobs("other", after=None, limit=5).items == ()
        assert store.list_files("other", after=None, limit=5).items == ()
        assert store.list_log("other", record.id, after=0, limit=5).items == ()
        assert store.delete_file("other", "file-a") is False
        assert store.get_file("acme", "file-a") is not None

    def test_the_cursor_of_another_tenant_is_unknown(self, store: Store) -> None:
        record = created(store)
        store.put_file(file("file-a"))
        with pytest.raises(RequestRefused):
            store.list_jobs("other", after=record.id, limit=5)
        with pytest.raises(RequestRefused):
            store.list_files("other", after="file-a", limit=5)

    def test_names_that_look_like_keys_stay_apart(self, store: Store) -> None:
        created(store, tenant="a", id="ftjob-1")
        created(store, tenant="a#b", id="ftjob-2")
        assert [r.id for r in store.list_jobs("a", after=None, limit=5).items] == ["ftjob-1"]
        assert [r.id for r in store.list_jobs("a#b", after=None, limit=5).items] == ["ftjob-2"]

    def test_nobody_writes_over_a_file_of_another(self, store: Store) -> None:
        store.put_file(file("file-a"))
        with pytest.raises(ValueError, match="another tenant"):
            store.put_file(file("file-a", tenant="other"))
        assert store.get_file("acme", "file-a") == file("file-a")


class TestLog:
    def test_lines_come_newest_first_page_by_page(self, store: Store) -> None:
        record = created(store)
        store.commit(record, decision(record, said=("1", "2", "3")), limit=LIMIT)
        record = found(store, record)
        store.commit(record, decision(record, said=("4", "5")), limit=LIMIT)
        first = store.list_log("acme", record.id, after=0, limit=2)
        second = store.list_log("acme", record.id, after=first.items[-1].sequence, limit=2)
        third = store.list_log("acme", record.id, after=second.items[-1].sequence, limit=2)
        pages = (first, second, third)
        assert [[line.sequence for line in page.items] for page in pages] == [[5, 4], [3, 2], [1]]
        assert [page.has_more for page in pages] == [True, True, False]
        assert [line.message for line in first.items] == ["5", "4"]

    def test_nothing_comes_after_the_first_line(self, store: Store) -> None:
        record = created(store)
        store.commit(record, decision(record, said=("1",)), limit=LIMIT)
        assert store.list_log("acme", record.id, after=1, limit=5).items == ()
        assert [e.sequence for e in store.list_log("acme", record.id, after=10**15, limit=5).items] == [1]

    def test_more_than_nine_lines_keep_their_order(self, store: Store) -> None:
        record = created(store)
        store.commit(record, decision(record, said=tuple("abcdefghijkl")), limit=LIMIT)
        sequences = [e.sequence for e in store.list_log("acme", record.id, after=0, limit=50).items]
        assert sequences == list(range(12, 0, -1))

    @pytest.mark.parametrize("sequences", [(2,), (1, 3), (2, 1), (1, 1)])
    def test_a_log_with_a_gap_is_refused(self, store: Store, sequences: tuple[int, ...]) -> None:
        record = created(store)
        log = tuple(
            LogEvent(job_id=record.id, sequence=n, created_at=NOW, level="info", message="m") for n in sequences
        )
        with pytest.raises(ValueError, match="without a gap"):
            store.commit(record, Decision(job=record.with_(event_seq=max(sequences)), log=log), limit=LIMIT)
        assert found(store, record) == record

    def test_a_job_that_counts_lines_it_does_not_say_is_refused(self, store: Store) -> None:
        record = created(store)
        with pytest.raises(ValueError, match="without a gap"):
            store.commit(record, Decision(job=record.with_(event_seq=1)), limit=LIMIT)


class TestOutbox:
    def test_commands_of_a_decision_become_entries_in_order(self, store: Store) -> None:
        commands = (CheckDataset(), StartAttempt(number=1), StopAttempt(name="ftjob-abc-1"))
        record = job()
        entries = store.create_job(decision(record, *commands), limit=LIMIT)
        assert [entry.id for entry in entries] == [f"ftjob-abc#1#{i}" for i in range(3)]
        assert [entry.command for entry in entries] == list(commands)
        assert list(store.pending_commands(NOW + 1)) == list(entries)
        assert store.get_command("ftjob-abc", entries[1].id) == entries[1]

    def test_an_entry_is_done_once_and_for_all(self, store: Store) -> None:
        record = job()
        (entry,) = store.create_job(decision(record, CheckDataset()), limit=LIMIT)
        store.complete_command(entry)
        store.complete_command(entry)
        assert store.get_command(record.id, entry.id) is None
        assert list(store.pending_commands(NOW + 1)) == []
        assert found(store, record).version == 1

    def test_only_older_entries_are_pending_the_oldest_first(self, store: Store) -> None:
        for i in (2, 0, 1):
            record = job(id=f"ftjob-{i}", created_at=NOW + i, updated_at=NOW + i)
            store.create_job(decision(record, CheckDataset()), limit=LIMIT)
        assert [entry.job_id for entry in store.pending_commands(NOW + 2)] == ["ftjob-0", "ftjob-1"]

    def test_an_entry_belongs_to_its_job(self, store: Store) -> None:
        (entry,) = store.create_job(decision(job(), CheckDataset()), limit=LIMIT)
        assert store.get_command("ftjob-other", entry.id) is None
        assert store.get_command("ftjob-abc", "ftjob-abc#1#7") is None


class TestActiveJobs:
    def test_jobs_of_all_tenants_are_active_until_they_end(self, store: Store) -> None:
        first = created(store, id="ftjob-1")
        created(store, id="ftjob-2", tenant="other", created_at=NOW + 1)
        assert [one.id for one in store.active_jobs()] == ["ftjob-1", "ftjob-2"]
        store.commit(first, decision(first, state="cancelled"), limit=LIMIT)
        assert [one.id for one in store.active_jobs()] == ["ftjob-2"]
        assert found(store, first).state == "cancelled"

    def test_a_failed_job_that_is_tried_again_is_active_again(self, store: Store) -> None:
        record = created(store, state="failed")
        assert list(store.active_jobs()) == []
        store.commit(record, decision(record, state="queued"), limit=LIMIT)
        assert [one.id for one in store.active_jobs()] == [record.id]


class TestMoney:
    def test_an_untouched_month_is_empty(self, store: Store) -> None:
        assert store.ledger("acme", MONTH, limit=7) == TenantLedger(tenant="acme", month=MONTH, limit=7)

    def test_an_attempt_is_reserved_then_released_and_settled_in_one_decision(self, store: Store) -> None:
        record = created(store)
        store.commit(record, decision(record, reserve=500), limit=1000)
        record = found(store, record)
        assert money(store) == (500, 0)
        store.commit(record, decision(record, release=500, settle=200), limit=1000)
        assert money(store) == (0, 200)

    def test_a_new_job_reserves_in_the_transaction_that_creates_it(self, store: Store) -> None:
        store.create_job(decision(job(), reserve=500), limit=1000)
        assert money(store) == (500, 0)

    def test_a_reservation_to_the_last_micro_dollar_is_taken(self, store: Store) -> None:
        record = created(store)
        store.commit(record, decision(record, reserve=600), limit=1000)
        record = found(store, record)
        store.commit(record, decision(record, release=600, settle=400), limit=1000)
        record = found(store, record)
        store.commit(record, decision(record, reserve=600), limit=1000)
        assert money(store) == (600, 400)

    @pytest.mark.parametrize("used", [0, 1])
    def test_a_reservation_above_the_limit_is_refused_and_nothing_is_written(self, store: Store, used: int) -> None:
        record = created(store)
        if used:
            store.commit(record, decision(record, reserve=used), limit=1000)
            record = found(store, record)
        with pytest.raises(LimitReached) as refusal:
            store.commit(
                record, decision(record, CheckDataset(), said=("x",), reserve=1001 - used, state="queued"), limit=1000
            )
        assert refusal.value.ledger == TenantLedger(tenant="acme", month=MONTH, limit=1000, reserved=used)
        assert found(store, record) == record
        assert list(store.pending_commands(NOW + 1)) == []
        assert store.list_log("acme", record.id, after=0, limit=5).items == ()
        assert money(store) == (used, 0)

    def test_a_job_above_the_limit_is_not_created(self, store: Store) -> None:
        with pytest.raises(LimitReached):
            store.create_job(decision(job(), reserve=2), limit=1)
        assert store.find_job("ftjob-abc") is None
        assert list(store.active_jobs()) == []

    def test_what_is_spent_is_booked_even_above_the_limit(self, store: Store) -> None:
        record = created(store)
        store.commit(record, decision(record, reserve=900), limit=1000)
        record = found(store, record)
        store.commit(record, decision(record, release=900, settle=1100), limit=1000)
        assert money(store) == (0, 1100)
        record = found(store, record)
        with pytest.raises(LimitReached):
            store.commit(record, decision(record, reserve=1), limit=1000)

    def test_one_decision_may_settle_an_attempt_and_reserve_the_next(self, store: Store) -> None:
        record = created(store)
        store.commit(record, decision(record, reserve=900), limit=1000)
        record = found(store, record)
        store.commit(record, decision(record, release=900, settle=100, reserve=900), limit=1000)
        assert money(store) == (900, 100)
        record = found(store, record)
        with pytest.raises(LimitReached):
            store.commit(record, decision(record, release=900, settle=101, reserve=900), limit=1000)
        assert money(store) == (900, 100)

    @pytest.mark.parametrize("reserved", [0, 5])
    def test_more_than_is_reserved_cannot_be_released(self, store: Store, reserved: int) -> None:
        record = created(store)
        store.commit(record, decision(record, reserve=reserved), limit=LIMIT)
        record = found(store, record)
        with pytest.raises(LedgerImbalance) as refusal:
            store.commit(record, decision(record, release=reserved + 1, reserve=9, state="failed"), limit=LIMIT)
        assert refusal.value.ledger.reserved == reserved
        assert found(store, record) == record
        assert money(store) == (reserved, 0)

    def test_one_decision_may_settle_in_one_month_and_reserve_in_the_next(self, store: Store) -> None:
        later = month_of(NOW + 40 * 86_400)
        record = created(store)
        store.commit(record, decision(record, reserve=900), limit=1000)
        record = found(store, record)
        end = LedgerChange(month=MONTH, release=900, settle=800)
        begin = LedgerChange(month=later, reserve=700)
        store.commit(record, Decision(job=record, ledgers=(end, begin)), limit=1000)
        assert money(store) == (0, 800)
        assert store.ledger("acme", later, limit=LIMIT).reserved == 700
        record = found(store, record)
        with pytest.raises(LimitReached) as refusal:
            store.commit(record, Decision(job=record, ledgers=(begin.with_(reserve=301),)), limit=1000)
        assert (refusal.value.ledger.month, refusal.value.ledger.reserved) == (later, 700)
        assert money(store) == (0, 800)

    def test_tenants_pay_for_themselves(self, store: Store) -> None:
        mine = created(store, id="ftjob-1")
        theirs = created(store, id="ftjob-2", tenant="other")
        store.commit(mine, decision(mine, reserve=1000), limit=1000)
        store.commit(theirs, decision(theirs, reserve=1000), limit=1000)
        assert money(store) == money(store, "other") == (1000, 0)


class TestKeysMoney:
    KEY = PayingKey(id="key-1", monthly_limit=300)

    def test_a_job_counts_against_its_tenant_and_its_key(self, store: Store) -> None:
        record = created(store, key=self.KEY)
        store.commit(record, decision(record, reserve=200), limit=1000)
        record = found(store, record)
        store.commit(record, decision(record, release=200, settle=150), limit=1000)
        assert money(store) == (0, 150)
        kept = store.ledger("acme", MONTH, limit=300, key="key-1")
        assert kept == TenantLedger(tenant="acme", month=MONTH, key="key-1", limit=300, billed=150)

    def test_a_keys_limit_refuses_where_the_tenants_does_not_and_nothing_is_written(self, store: Store) -> None:
        record = created(store, key=self.KEY)
        with pytest.raises(LimitReached) as refusal:
            store.commit(record, decision(record, reserve=301), limit=1000)
        assert (refusal.value.ledger.key, refusal.value.ledger.limit) == ("key-1", 300)
        assert money(store) == (0, 0)
        assert store.ledger("acme", MONTH, limit=300, key="key-1").reserved == 0

    def test_keys_of_one_tenant_pay_apart(self, store: Store) -> None:
        for number in (1, 2):
            record = created(store, id=f"ftjob-{number}", key=self.KEY.with_(id=f"key-{number}"))
            store.commit(record, decision(record, reserve=300), limit=1000)
        assert money(store) == (600, 0)
        assert [(one.key, one.reserved) for one, _ in store.ledgers(MONTH)] == [
            ("", 600),
            ("key-1", 300),
            ("key-2", 300),
        ]


class TestLines:
    def test_places_are_taken_until_there_are_no_more_and_nothing_else_is_written(self, store: Store) -> None:
        first, second, third = (created(store, id=f"ftjob-{i}") for i in range(3))
        store.commit(first, decision(first, lines=(TAKE,)), limit=LIMIT, places={"a": 2})
        store.commit(second, decision(second, lines=(TAKE,)), limit=LIMIT, places={"a": 2})
        with pytest.raises(LineFull) as refusal:
            store.commit(third, decision(third, said=("x",), reserve=5, lines=(TAKE,)), limit=LIMIT, places={"a": 2})
        assert refusal.value.line == "a"
        assert found(store, third) == third
        assert money(store) == (0, 0)
        first = found(store, first)
        store.commit(first, decision(first, lines=(TAKE.with_(held=-1),)), limit=LIMIT, places={"a": 0})
        store.commit(third, decision(third, lines=(TAKE,)), limit=LIMIT, places={"a": 2})
        assert lines(store) == [LineState(line="a", held=2)]

    def test_a_line_without_a_limit_takes_all(self, store: Store) -> None:
        record = created(store)
        store.commit(record, decision(record, lines=(TAKE.with_(held=1000),)), limit=LIMIT, places={"b": 1})
        assert lines(store) == [LineState(line="a", held=1000)]

    def test_nobody_overtakes_those_who_stand_in_line_but_who_is_called(self, store: Store) -> None:
        standing, other = created(store, id="ftjob-1"), created(store, id="ftjob-2")
        store.commit(standing, decision(standing, lines=(LineChange(line="a", waiting=1),)), limit=LIMIT)
        with pytest.raises(LineFull):
            store.commit(other, decision(other, lines=(TAKE,)), limit=LIMIT, places={"a": 9})
        standing = found(store, standing)
        called = LineChange(line="a", held=1, waiting=-1, in_turn=True)
        store.commit(standing, decision(standing, lines=(called,)), limit=LIMIT, places={"a": 9})
        store.commit(other, decision(other, lines=(TAKE,)), limit=LIMIT, places={"a": 9})
        assert lines(store) == [LineState(line="a", held=2)]

    def test_who_is_called_needs_a_place_all_the_same(self, store: Store) -> None:
        record = created(store)
        called = LineChange(line="a", held=2, waiting=-1, in_turn=True)
        with pytest.raises(LineFull):
            store.commit(record, decision(record, lines=(called,)), limit=LIMIT, places={"a": 1})
        assert lines(store) == []

    def test_a_job_is_not_created_where_a_line_is_full(self, store: Store) -> None:
        with pytest.raises(LineFull):
            store.create_job(decision(job(), lines=(TAKE,), reserve=3), limit=LIMIT, places={"a": 0})
        assert store.find_job("ftjob-abc") is None
        assert money(store) == (0, 0)

    def test_money_is_told_before_a_full_line(self, store: Store) -> None:
        with pytest.raises(LimitReached):
            store.create_job(decision(job(), lines=(TAKE,), reserve=3), limit=2, places={"a": 0})

    def test_of_fifty_at_once_as_many_get_a_place_as_there_are(self, store: Store) -> None:
        records = [created(store, id=f"ftjob-{i}") for i in range(50)]

        def take(i: int) -> str:
            store.commit(records[i], decision(records[i], lines=(TAKE,)), limit=LIMIT, places={"a": 7})
            return "taken"

        assert race(take, 50, LineFull) == {"taken": 7, "LineFull": 43}
        assert lines(store) == [LineState(line="a", held=7)]

    def test_an_active_job_tells_what_it_holds_and_waits_for(self, store: Store) -> None:
        attempt = open_prepared(job(), prepared(), NOW).job.attempts
        created(store, id="ftjob-1", attempts=attempt, state="queued", reserved=attempt[0].reserved)
        created(store, id="ftjob-2", line="a", in_line_since=NOW, idle_until=NOW + 5, created_at=NOW + 1)
        first, second = store.active_jobs()
        assert (first.held, first.reserved, first.line) == (attempt[0].held, {MONTH: attempt[0].reserved}, "")
        assert (second.line, second.in_line_since, second.idle_until) == ("a", NOW, NOW + 5)


class TestCorrections:
    def test_a_count_is_corrected_where_nothing_moved_it_since_it_was_read(self, store: Store) -> None:
        record = created(store)
        store.commit(record, decision(record, reserve=5, lines=(TAKE,)), limit=LIMIT)
        ((ledger, tally),), ((line, count),) = store.ledgers(MONTH), store.lines()
        assert tally.changed_at == count.changed_at == NOW
        assert store.correct_ledger(ledger, tally, 2)
        assert store.correct_line(line, count, held=0, waiting=0)
        assert money(store) == (2, 0)
        assert lines(store) == [LineState(line="a")]
        with pytest.raises(LimitReached):
            store.create_job(decision(job(id="ftjob-2"), reserve=9), limit=10)

    def test_a_count_that_was_moved_since_is_left_alone(self, store: Store) -> None:
        record = created(store)
        store.commit(record, decision(record, reserve=5, lines=(TAKE,)), limit=LIMIT)
        ((ledger, tally),), ((line, count),) = store.ledgers(MONTH), store.lines()
        record = found(store, record)
        store.commit(record, decision(record, reserve=5, lines=(TAKE,)), limit=LIMIT)
        assert not store.correct_ledger(ledger, tally, 2)
        assert not store.correct_line(line, count, held=0, waiting=0)
        assert money(store) == (10, 0)
        assert lines(store) == [LineState(line="a", held=2)]


class TestFiles:
    def test_a_file_is_replaced_in_its_place(self, store: Store) -> None:
        store.put_file(file("file-a", status="uploading", upload_id="u"))
        store.put_file(file("file-b", created_at=NOW + 1))
        store.put_file(file("file-a"))
        assert store.get_file("acme", "file-a") == file("file-a")
        assert [f.id for f in store.list_files("acme", after=None, limit=5).items] == ["file-b", "file-a"]

    def test_files_are_listed_both_ways(self, store: Store) -> None:
        for i in range(4):
            store.put_file(file(f"file-{i}", created_at=NOW + i))
        newest = store.list_files("acme", after="file-2", limit=1)
        oldest = store.list_files("acme", after="file-1", limit=2, ascending=True)
        assert ([f.id for f in newest.items], newest.has_more) == (["file-1"], True)
        assert ([f.id for f in oldest.items], oldest.has_more) == (["file-2", "file-3"], False)

    def test_a_deleted_file_is_gone_and_its_cursor_with_it(self, store: Store) -> None:
        store.put_file(file("file-a"))
        assert store.delete_file("acme", "file-a") is True
        assert store.delete_file("acme", "file-a") is False
        assert store.get_file("acme", "file-a") is None
        assert store.list_files("acme", after=None, limit=5).items == ()
        with pytest.raises(RequestRefused):
            store.list_files("acme", after="file-a", limit=5)


class TestKeys:
    def test_a_key_is_found_by_its_hash_alone(self, store: Store) -> None:
        key = ApiKey(sha256="a" * 64, tenant="acme", name="ci", created_at=NOW)
        store.put_key(key)
        assert store.find_key("a" * 64) == key
        assert store.find_key("b" * 64) is None

    def test_keys_are_listed_by_tenant_newest_first_with_their_last_use(self, store: Store) -> None:
        keys = [ApiKey(sha256=str(i) * 64, tenant="acme", name=str(i), created_at=NOW + i) for i in range(3)]
        for key in keys:
            store.put_key(key)
        store.put_key(ApiKey(sha256="9" * 64, tenant="other", name="x", created_at=NOW))
        store.note_use(keys[1], NOW + 50)
        assert store.list_keys("acme") == ((keys[2], None), (keys[1], NOW + 50), (keys[0], None))

    def test_noting_a_use_does_not_undo_a_revocation(self, store: Store) -> None:
        key = ApiKey(sha256="a" * 64, tenant="acme", name="ci", created_at=NOW)
        store.put_key(key)
        store.put_key(key.with_(revoked_at=NOW + 1))
        store.note_use(key, NOW + 2)
        found = store.find_key(key.sha256)
        assert found is not None
        assert found.revoked_at == NOW + 1
        assert store.list_keys("acme") == ((found, NOW + 2),)

    def test_a_revoked_key_stays_so_and_a_principal_is_mapped_anew(self, store: Store) -> None:
        for principal, opens in ((None, False), ("arn:aws:iam::1:role/r", True)):
            key = ApiKey(sha256="a" * 64, tenant="acme", name="ci", created_at=NOW, principal=principal)
            store.put_key(key)
            store.put_key(key.with_(revoked_at=NOW + 1))
            store.put_key(key)
            found = store.find_key(key.sha256)
            assert found is not None
            assert (found.revoked_at is None) is opens

    def test_a_principal_that_moves_to_another_tenant_leaves_its_last_use_behind(self, store: Store) -> None:
        key = ApiKey(sha256="a" * 64, tenant="acme", name="ci", created_at=NOW, principal="arn:aws:iam::1:role/r")
        store.put_key(key)
        store.note_use(key, NOW + 50)
        moved = key.with_(tenant="other")
        store.put_key(moved)
        assert store.list_keys("acme") == ()
        assert store.list_keys("other") == ((moved, None),)
        store.note_use(moved, NOW + 60)
        assert store.list_keys("other") == ((moved, NOW + 60),)


class TestRequestWindows:
    KEY = ApiKey(sha256="a" * 64, tenant="acme", name="ci", created_at=NOW)

    def test_requests_are_counted_up_to_the_limit_and_no_further(self, store: Store) -> None:
        counted = [store.count_request(self.KEY, 60, limit=3) for _ in range(5)]
        assert counted == [1, 2, 3, None, None]
        assert store.count_request(self.KEY, 60, limit=4) == 4

    def test_each_window_and_each_key_is_counted_on_its_own(self, store: Store) -> None:
        other = self.KEY.with_(sha256="b" * 64)
        assert store.count_request(self.KEY, 60, limit=1) == 1
        assert store.count_request(self.KEY, 120, limit=1) == 1
        assert store.count_request(other, 60, limit=1) == 1
        assert store.count_request(self.KEY, 60, limit=1) is None

    def test_a_late_clock_still_finds_the_window_before(self, store: Store) -> None:
        store.count_request(self.KEY, 60, limit=2)
        store.count_request(self.KEY, 120, limit=2)
        assert store.count_request(self.KEY, 60, limit=2) == 2
        assert store.count_request(self.KEY, 60, limit=2) is None

    def test_counting_leaves_keys_and_their_uses_alone(self, store: Store) -> None:
        store.put_key(self.KEY)
        store.note_use(self.KEY, NOW)
        store.count_request(self.KEY, 60, limit=1)
        assert store.find_key(self.KEY.sha256) == self.KEY
        assert store.list_keys("acme") == ((self.KEY, NOW),)

    def test_of_fifty_requests_at_once_exactly_as_many_as_allowed_are_counted(self, store: Store) -> None:
        counts: list[int] = []

        def count(i: int) -> str:
            used = store.count_request(self.KEY, 60, limit=20)
            counts.append(used or 0)
            return "refused" if used is None else "counted"

        assert race(count, 50, LimitReached) == {"counted": 20, "refused": 30}
        assert sorted(counts)[30:] == list(range(1, 21))


class TestRaces:
    def test_of_twenty_commits_on_one_version_exactly_one_wins(self, store: Store) -> None:
        record = created(store)

        def change(i: int) -> str:
            store.commit(record, decision(record, StartAttempt(number=1), said=("x",), reserve=10), limit=LIMIT)
            return "won"

        assert race(change, 20, VersionConflict) == {"won": 1, "VersionConflict": 19}
        assert found(store, record).version == 2
        assert money(store) == (10, 0)
        assert len(list(store.pending_commands(NOW + 1))) == 1
        assert [line.sequence for line in store.list_log("acme", record.id, after=0, limit=50).items] == [1]

    def test_of_twenty_creations_of_one_job_exactly_one_wins(self, store: Store) -> None:
        def create(i: int) -> str:
            store.create_job(decision(job(), CheckDataset(), reserve=10), limit=LIMIT)
            return "won"

        assert race(create, 20, VersionConflict) == {"won": 1, "VersionConflict": 19}
        assert money(store) == (10, 0)

    def test_fifty_reservations_at_once_never_pass_the_limit(self, store: Store) -> None:
        records = [created(store, id=f"ftjob-{i}") for i in range(50)]

        def reserve(i: int) -> str:
            store.commit(records[i], decision(records[i], reserve=100), limit=1050)
            return "reserved"

        assert race(reserve, 50, LimitReached) == {"reserved": 10, "LimitReached": 40}
        assert money(store) == (1000, 0)

    def test_settlements_and_reservations_at_once_lose_nothing(self, store: Store) -> None:
        records = [created(store, id=f"ftjob-{i}") for i in range(30)]
        for record in records[:15]:
            store.commit(record, decision(record, reserve=100), limit=LIMIT)

        def move(i: int) -> str:
            record = found(store, records[i])
            money = {"release": 100, "settle": 70} if i < 15 else {"reserve": 100}
            store.commit(record, decision(record, **money), limit=LIMIT)
            return "moved"

        assert race(move, 30, LimitReached) == {"moved": 30}
        assert money(store) == (1500, 1050)

    def test_every_writer_that_decides_anew_gets_through(self, store: Store) -> None:
        record = created(store)

        def speak(i: int) -> str:
            while True:
                now = found(store, record)
                try:
                    store.commit(now, decision(now, said=(str(i),)), limit=LIMIT)
                except VersionConflict:
                    continue
                return "said"

        assert race(speak, 12, LimitReached) == {"said": 12}
        lines = store.list_log("acme", record.id, after=0, limit=50).items
        assert [line.sequence for line in lines] == list(range(12, 0, -1))
        assert {line.message for line in lines} == {str(i) for i in range(12)}


TAKE = LineChange(line="a", held=1)


def lines(store: Store) -> list[LineState]:
    return [state for state, _ in store.lines()]


def money(store: Store, tenant: str = "acme") -> tuple[int, int]:
    ledger = store.ledger(tenant, MONTH, limit=LIMIT)
    return ledger.reserved, ledger.billed


def race(act: Callable[[int], str], runners: int, expected: type[Exception]) -> Counter[str]:
    """Run `act(i)` in so many threads that start at once; how often each result, or the expected error, came out."""
    start = Barrier(runners)

    def run(i: int) -> str:
        start.wait()
        try:
            return act(i)
        except expected as error:
            return type(error).__name__

    with ThreadPoolExecutor(runners) as pool:
        return Counter(pool.map(run, range(runners)))


class TestRuns:
    def ended(self, store: Store, job_id: str, tenant: str = "acme", at: float = NOW, **changes: object) -> FinishedRun:
        record = job(id=job_id, tenant=tenant, created_at=at, state="queued")
        store.create_job(decision(record), limit=LIMIT)
        run = finished_run(id=job_id, tenant=tenant, created_at=at, **changes)
        store.commit(found(store, record), decision(found(store, record), run=run, state="succeeded"), limit=LIMIT)
        return run

    def test_a_run_is_kept_with_the_decision_that_ends_its_job(self, store: Store) -> None:
        run = self.ended(store, "ftjob-1")
        assert store.list_runs("acme", after=None, limit=10).items == (run,)
        assert list(store.recent_runs(10)) == [run]

    def test_a_refused_decision_keeps_no_run(self, store: Store) -> None:
        record = created(store)
        store.commit(record, decision(record), limit=LIMIT)
        with pytest.raises(VersionConflict):
            store.commit(record, decision(record, run=finished_run(), state="succeeded"), limit=LIMIT)
        assert list(store.recent_runs(10)) == []

    def test_a_run_settles_its_money_in_the_same_decision(self, store: Store) -> None:
        record = created(store)
        store.commit(record, decision(record, reserve=50), limit=LIMIT)
        now = found(store, record)
        ending = decision(now, run=finished_run(), release=50, settle=20, state="succeeded")
        store.commit(now, ending, limit=LIMIT)
        assert store.ledger("acme", MONTH, limit=LIMIT).billed == 20
        with pytest.raises(VersionConflict):
            store.commit(now, ending, limit=LIMIT)
        assert store.ledger("acme", MONTH, limit=LIMIT).billed == 20

    def test_a_job_that_ends_again_has_its_newest_outcome(self, store: Store) -> None:
        self.ended(store, "ftjob-1", completed=False)
        failed = store.get_job("acme", "ftjob-1")
        assert failed is not None
        again = finished_run(id="ftjob-1", completed=True)
        store.commit(failed, decision(failed, run=again, state="succeeded"), limit=LIMIT)
        assert list(store.recent_runs(10)) == [again]

    def test_runs_page_by_tenant_and_the_planner_reads_those_of_all(self, store: Store) -> None:
        runs = [self.ended(store, f"ftjob-{number}", at=NOW + number) for number in range(5)]
        other = self.ended(store, "ftjob-other", tenant="other", at=NOW + 9)
        first = store.list_runs("acme", after=None, limit=2)
        assert first.items == (runs[4], runs[3])
        assert first.has_more
        rest = store.list_runs("acme", after=runs[3].id, limit=10)
        assert rest.items == (runs[2], runs[1], runs[0])
        assert not rest.has_more
        assert list(store.recent_runs(3)) == [other, runs[4], runs[3]]

    def test_another_tenants_run_is_no_cursor(self, store: Store) -> None:
        self.ended(store, "ftjob-other", tenant="other")
        with pytest.raises(RequestRefused, match="nothing of yours"):
            store.list_runs("acme", after="ftjob-other", limit=2)

    def test_the_run_of_another_job_is_refused(self, store: Store) -> None:
        record = created(store)
        with pytest.raises(ValueError, match="cannot keep the run"):
            store.commit(record, decision(record, run=finished_run(id="ftjob-z")), limit=LIMIT)

    def test_runs_are_no_active_jobs(self, store: Store) -> None:
        self.ended(store, "ftjob-1")
        assert list(store.active_jobs()) == []
        assert list(store.pending_commands(NOW + 1e6)) == []
