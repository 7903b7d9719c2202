"""The control plane as hypothesis plays with it: few jobs, one fault at a time, a shrunk history where one fails."""

from __future__ import annotations

import logging
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from spotune.contracts.errors import SpotuneError
from spotune.contracts.request import JobRequest
from spotune.lifecycle.draft import Draft
from spotune.local.double.machine import interruptible
from spotune.service.installation import install
from spotune.service.jobs import control
from spotune.service.jobs.observation import observe
from spotune.service.jobs.submit import submit
from spotune.service.launch import run_command
from spotune.service.reconcile import reconcile
from tests import tiny_model
from tests.faults.checks import Watcher
from tests.faults.nemesis import Killed, Nemesis
from tests.faults.world import SKEW, World, make_world
from tests.in_process import client_of

TENANTS = ("acme", "beta")
FAULTS = st.sampled_from(
    [
        "killed before store",
        "killed after store",
        "store unavailable",
        "store answer lost",
        "store conflict",
        "queue unavailable",
        "killed before queue",
        "killed before deliveries",
        "killed after deliveries",
        "deliveries unavailable",
        "s3 unavailable",
        "sagemaker throttled",
        "sagemaker timeout",
        "CreateTrainingJob answer lost",
        "killed after CreateTrainingJob",
        "killed after StopTrainingJob",
        "clock skew",
    ]
)


class Armed(Nemesis):
    """Strikes once with each fault that it was told to, and never by chance."""

    def __init__(self) -> None:
        super().__init__(Random(0))
        self.armed: set[str] = set()

    def strikes(self, kind: str, probability: float) -> bool:
        if kind not in self.armed:
            return False
        self.armed.remove(kind)
        self.faults[kind] += 1
        return True


class ControlPlane(RuleBasedStateMachine):
    """Every rule is one process from its beginning to its end, or to where it is killed."""

    world: World
    watcher: Watcher

    @initialize()
    def begin(self) -> None:
        self.nemesis = Armed()
        self.world = make_world(0, self.nemesis)
        self.watcher = Watcher(self.world)
        install(self.world.here)
        self.files = {tenant: client_of(self.world.here, tenant).upload(tiny_model.chat_rows(8)) for tenant in TENANTS}
        self.messages: list[dict[str, Any]] = []
        self.jobs: list[tuple[str, str]] = []

    def process(self, act: Any, *arguments: Any, **named: Any) -> Any:
        try:
            with suppress(SpotuneError):
                return act(self.world.here, *arguments, **named)
        except Killed:
            pass
        finally:
            self.messages += self.world.queue.take()
        return None

    @rule(kind=FAULTS)
    def arm(self, kind: str) -> None:
        self.nemesis.armed.add(kind)

    @rule(key=st.integers(0, 2), tenant=st.sampled_from(TENANTS), market=st.sampled_from(["spot", "auto"]))
    def submit(self, key: int, tenant: str, market: str) -> None:
        constraints = {"budget_usd": 1.5, "market": market}
        request = JobRequest.model_validate(
            {"model": tiny_model.NAME, "training_file": self.files[tenant], "constraints": constraints}
        )
        made = self.process(submit, tenant, request, f"{key}")
        if made is not None and (tenant, made.id) not in self.jobs:
            self.jobs.append((tenant, made.id))

    @rule(at=st.integers(0, 9), again=st.booleans())
    def deliver(self, at: int, again: bool) -> None:
        if self.messages:
            message = self.messages[at % len(self.messages)]
            if not again:
                self.messages.remove(message)
            self.process(run_command, str(message["job_id"]), str(message["entry_id"]))

    @rule()
    def lose_all_messages(self) -> None:
        self.messages.clear()

    @rule(seconds=st.sampled_from([1.0, 70.0, 400.0, 2000.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    @rule(at=st.integers(0, 9))
    def hear_of_a_change(self, at: int) -> None:
        """Any of those that were sent, in any order, as often as it comes."""
        if self.world.events:
            self.process(observe, self.world.events[at % len(self.world.events)])

    @rule()
    def reconcile(self) -> None:
        repairs = self.process(reconcile)
        if repairs is not None:
            assert (repairs.counts_corrected, repairs.orphans_stopped) == (0, 0)

    @rule(at=st.integers(0, 9), act=st.sampled_from(["cancel", "pause", "resume"]))
    def person(self, at: int, act: str) -> None:
        if self.jobs:
            self.process(getattr(control, act), *self.jobs[at % len(self.jobs)])

    @rule(there=st.booleans())
    def capacity(self, there: bool) -> None:
        self.world.double.capacity.set_available("ml.g4dn.xlarge", there)

    @rule(limit=st.sampled_from([0, 1, 20]))
    def quota(self, limit: int) -> None:
        for market in ("spot", "on_demand"):
            self.world.double.quotas.set("ml.g4dn.xlarge", market, limit)

    @rule(at=st.integers(0, 9))
    def spot_takes_an_instance_back(self, at: int) -> None:
        running = [one.name for one in self.world.double.jobs() if one.live and interruptible(one)]
        if running:
            self.world.double.interrupt(running[at % len(running)])

    @invariant()
    def nothing_is_broken(self) -> None:
        if hasattr(self, "watcher"):
            self.watcher.look()
            assert self.watcher.violations == []

    def teardown(self) -> None:
        """Everything comes to its end, with the reconciler alone."""
        if not hasattr(self, "watcher"):
            return
        self.nemesis.armed.clear()
        self.capacity(there=True)
        self.quota(limit=20)
        for _ in range(200):
            told = next(self.world.store.pending_commands(self.world.clock.now() + SKEW), None) is None
            if told and all(job.terminal or job.state == "paused" for job in self.watcher.jobs()):
                break
            self.world.clock.advance(1200)
            self.reconcile()
            while self.messages:
                self.deliver(0, again=False)
        self.watcher.look_at_the_end()
        assert self.watcher.violations == []


def play(examples: int, **more: Any) -> None:
    logging.disable(logging.CRITICAL)
    try:
        run_state_machine_as_test(
            ControlPlane,
            settings=settings(
                max_examples=examples,
                stateful_step_count=30,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                **more,
            ),
        )
    finally:
        logging.disable(logging.NOTSET)


def test_no_history_that_hypothesis_finds_breaks_an_invariant() -> None:
    play(25)


def test_a_deliberate_bug_is_found_and_its_history_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    settle = Draft.settle

    def keep_the_places(draft: Draft, attempt: Any, billed: int) -> Any:
        ended = settle(draft, attempt, billed)
        return ended.with_(held=attempt.held)

    monkeypatch.setattr(Draft, "settle", keep_the_places)
    with pytest.raises(AssertionError, match=r"== \(0, 0\)|its jobs"):
        play(50, database=None, derandomize=True)
