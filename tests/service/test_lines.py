"""Standing in line for a place, and being called: through the API, the launch and the reconciler."""

from __future__ import annotations

from collections import Counter

import pytest

from spotune.aws.base import TrainingJobRefused
from spotune.contracts.job import Decision
from spotune.contracts.market import Quotas
from spotune.service.installation import install
from spotune.service.jobs.observation import observe
from spotune.service.market import refresh
from spotune.service.reconcile import reconcile
from spotune.store.memory import MemoryStore
from tests import tiny_model
from tests.in_process import Client, World, client_of
from tests.in_process import world as make_world

JOBS = "/v1/fine_tuning/jobs"
TYPE = "ml.g4dn.xlarge"


class Crowd:
    """Tenants that submit to an installation with few places."""

    def __init__(self, **limits: int) -> None:
        self.world: World = make_world(**limits)
        install(self.world.here)
        self.clients: dict[str, Client] = {}
        self.files: dict[str, str] = {}

    def submit(self, tenant: str, **constraints: object) -> str:
        if tenant not in self.clients:
            self.clients[tenant] = client_of(self.world.here, tenant)
            self.files[tenant] = self.clients[tenant].upload(tiny_model.chat_rows(30))
        self.world.clock.now += 1
        asked = {"budget_usd": 5, "market": "on_demand", "instance_types": [TYPE], **constraints}
        body = {"model": tiny_model.NAME, "training_file": self.files[tenant], "constraints": asked}
        answer = self.clients[tenant].call("POST", JOBS, body)
        assert answer.status == 200, answer.raw
        self.world.run_queue()
        return str(answer.body["id"])

    def waits_for(self, job_id: str) -> str:
        job = self.world.store.find_job(job_id)
        assert job is not None
        return job.waiting_for

    def started(self) -> list[str]:
        return [name.rpartition("-")[0] for name in self.world.training_jobs.specs]

    def end(self, job_id: str) -> None:
        name = f"{job_id}-1"
        self.world.training_jobs.observe(name, status="Stopped", secondary_status="Stopped")
        observe(self.world.here, name)

    def pass_by(self, seconds: float = 60) -> int:
        self.world.clock.now += seconds
        called = reconcile(self.world.here).jobs_called
        self.world.run_queue()
        return called


def test_more_than_may_run_stand_in_line_and_are_called_in_their_turn() -> None:
    crowd = Crowd(jobs_per_tenant=2)
    jobs = [crowd.submit("acme") for _ in range(5)]
    assert crowd.started() == jobs[:2]
    assert [crowd.waits_for(job) for job in jobs[2:]] == ["a free place: as many jobs of acme run as may at a time"] * 3
    assert crowd.pass_by() == 0
    for number in range(3):
        crowd.end(jobs[number])
        assert crowd.pass_by() == 1
        assert crowd.started() == jobs[: 3 + number]


def test_one_who_submits_while_others_stand_in_line_does_not_overtake_them() -> None:
    crowd = Crowd(jobs_per_tenant=1)
    first, second = crowd.submit("acme"), crowd.submit("acme")
    crowd.end(first)
    late = crowd.submit("acme")
    assert crowd.started() == [first], "there is a free place, and the second's turn has not been called yet"
    assert crowd.pass_by() == 1
    assert crowd.started() == [first, second]
    assert crowd.waits_for(late)


def test_a_tenant_at_its_limit_does_not_keep_another_from_starting() -> None:
    crowd = Crowd(jobs_per_tenant=1)
    crowd.submit("acme"), crowd.submit("acme")
    other = crowd.submit("globex")
    assert other in crowd.started()


def test_places_among_all_go_round_the_tenants() -> None:
    crowd = Crowd(jobs=2)
    greedy = [crowd.submit("greedy") for _ in range(6)]
    modest = [crowd.submit("modest") for _ in range(2)]
    crowd.end(greedy[0])
    crowd.pass_by()
    crowd.end(greedy[1])
    crowd.pass_by()
    tenants = Counter("modest" if job in modest else "greedy" for job in crowd.started()[2:])
    assert tenants == {"modest": 1, "greedy": 1}, "who holds least goes first, then they take turns"


def test_a_job_in_line_reserves_no_money_and_a_cancel_takes_it_out() -> None:
    crowd = Crowd(jobs_per_tenant=1)
    crowd.submit("acme")
    before = crowd.world.store.ledger("acme", "2026-09", limit=0).reserved
    waiting = crowd.submit("acme")
    assert crowd.world.store.ledger("acme", "2026-09", limit=0).reserved == before
    cancelled = crowd.clients["acme"].call("POST", f"{JOBS}/{waiting}/cancel")
    assert cancelled.body["status"] == "cancelled"
    assert [(state.line, state.waiting) for state, _ in crowd.world.store.lines() if state.waiting] == []


def with_quota(crowd: Crowd, quota: int) -> None:
    crowd.world.market.values = {"quotas": {TYPE: Quotas(spot=quota, on_demand=quota)}}
    refresh(crowd.world.here)
    crowd.world.clock.now += 301  # what a process has read of the market is kept so long


def test_a_known_quota_is_kept_without_asking_sagemaker() -> None:
    crowd = Crowd()
    with_quota(crowd, 2)
    jobs = [crowd.submit("acme") for _ in range(3)]
    assert crowd.started() == jobs[:2]
    assert crowd.waits_for(jobs[2]) == f"quota of {TYPE} (on_demand in us-east-1)"
    crowd.end(jobs[0])
    assert crowd.pass_by() == 1
    assert crowd.started() == jobs


def test_sagemaker_has_the_last_word_on_its_quota() -> None:
    """Raised since it was fetched: one is tried beyond what is known, then the next."""
    crowd = Crowd()
    with_quota(crowd, 1)
    jobs = [crowd.submit("acme") for _ in range(3)]
    assert crowd.started() == jobs[:1]
    assert crowd.pass_by() == 1
    assert crowd.pass_by() == 1
    assert crowd.started() == jobs


def test_a_refusal_rests_the_line_and_the_refused_keeps_his_place() -> None:
    crowd = Crowd()
    crowd.world.training_jobs.answers.extend([TrainingJobRefused("quota", "limit is 0")])
    first = crowd.submit("acme")
    second = crowd.submit("globex")
    assert crowd.started() == []
    assert crowd.waits_for(second) == crowd.waits_for(first)
    assert crowd.pass_by(120) == 0
    assert crowd.pass_by(200) == 1
    assert crowd.started() == [first]
    assert crowd.pass_by() == 1
    assert crowd.started() == [first, second]


def widen(crowd: Crowd, job_id: str, instances: int) -> None:
    """Let a job that stands in line need more instances."""
    job = crowd.world.store.find_job(job_id)
    assert job is not None
    assert job.plan is not None
    rungs = tuple(rung.with_(instance_count=instances) for rung in job.plan.rungs)
    wide = job.with_(plan=job.plan.with_(rungs=rungs))
    crowd.world.store.commit(job, Decision(job=wide), limit=0)


def test_nobody_overtakes_a_job_that_needs_more_instances_than_are_free() -> None:
    crowd = Crowd()
    with_quota(crowd, 2)
    first, second, wide, narrow = (crowd.submit("acme") for _ in range(4))
    widen(crowd, wide, 2)
    crowd.world.training_jobs.answers.append(TrainingJobRefused("quota", "one of two is free"))
    crowd.end(first)
    crowd.pass_by()
    assert crowd.started() == [first, second], "SageMaker was asked for two, and refused"
    crowd.end(second)
    assert crowd.pass_by(301) == 1
    assert crowd.started() == [first, second, wide]
    assert crowd.waits_for(narrow)


def test_a_job_that_needs_more_than_the_whole_quota_does_not_block_its_line() -> None:
    crowd = Crowd()
    with_quota(crowd, 1)
    first, wide, narrow = (crowd.submit("acme") for _ in range(3))
    widen(crowd, wide, 2)
    crowd.end(first)
    assert crowd.pass_by() == 1
    assert crowd.started() == [first, narrow]
    assert crowd.waits_for(wide).startswith("quota of")


def test_a_job_that_cannot_be_read_does_not_hold_up_those_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = Crowd(jobs_per_tenant=1)
    first, broken, behind = (crowd.submit("acme") for _ in range(3))
    crowd.end(first)
    find = MemoryStore.find_job

    def fail(self: MemoryStore, job_id: str) -> object:
        if job_id == broken:
            raise ValueError("unreadable")
        return find(self, job_id)

    monkeypatch.setattr(MemoryStore, "find_job", fail)
    assert crowd.pass_by() == 1
    assert crowd.started() == [first, behind]
