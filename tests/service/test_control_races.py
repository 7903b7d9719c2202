"""Cancel, pause and resume against completion, against each other, and against themselves, in every order."""

from __future__ import annotations

from contextlib import suppress
from itertools import product
from typing import Any

import pytest

from spotune.contracts import layout
from spotune.contracts.commands import OutboxEntry
from spotune.contracts.errors import Conflict
from spotune.contracts.job import Decision, JobRecord
from spotune.contracts.request import JobRequest
from spotune.service.installation import install
from spotune.service.jobs import control, submit
from spotune.service.jobs.observation import observe
from spotune.service.reconcile import reconcile
from tests import tiny_model
from tests.aws.test_training_jobs import spec
from tests.factories import report
from tests.in_process import client_of
from tests.in_process import world as make_world

STATES = ("validating", "queued", "starting", "running", "interrupted", "evaluating", "paused")
WISHES = ("cancel", "pause", "resume")
ACTS = (*WISHES, "complete", "stopped", "launch")
SPENT = {"training_seconds": 60, "billable_seconds": 60}


class Story:
    """One job, and what happens to it. `accepted` holds the acts that were not refused, in their order."""

    def __init__(self, state: str) -> None:
        self.world = make_world()
        install(self.world.here)
        file_id = client_of(self.world.here, "acme").upload(tiny_model.chat_rows(40))
        request = JobRequest(model=tiny_model.NAME, training_file=file_id)
        self.id = self._submitted(request, large=state == "validating").id
        self.published = False
        self.accepted: list[str] = []
        self._reach(state)
        assert self.job.state == state
        self.accepted = ["pause"] if state == "paused" else []

    @property
    def job(self) -> JobRecord:
        job = self.world.store.find_job(self.id)
        assert job is not None
        return job

    @property
    def live(self) -> list[str]:
        """Training jobs of SageMaker's that have not ended."""
        jobs = self.world.training_jobs
        seen = [jobs.describe(name) for name in jobs.specs]
        return [one.name for one in seen if one is not None and one.status in ("InProgress", "Stopping")]

    def act(self, name: str) -> None:
        """A person's wish, or what SageMaker does; a wish may be refused."""
        if name in WISHES:
            with suppress(Conflict):
                getattr(control, name)(self.world.here, "acme", self.id)
                self.accepted.append(name)
        elif name == "launch":
            self.world.run_queue()
        else:
            for training_job in self.live:
                self._end(training_job, completed=name == "complete")

    def act_while(self, first: str, second: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """`second` happens from its beginning to its end between what `first` reads and what it writes."""
        commit = self.world.store.commit
        waiting = [second]

        def commit_late(job: JobRecord, decision: Decision, **rules: Any) -> tuple[OutboxEntry, ...]:
            if waiting:
                self.act(waiting.pop())
            return commit(job, decision, **rules)

        with monkeypatch.context() as racing:
            racing.setattr(self.world.store, "commit", commit_late)
            self.act(first)

    def come_to_rest(self) -> None:
        """What was asked to stop stops, every message arrives, and the reconciler comes by."""
        for _ in range(8):
            self.world.run_queue()
            for name in self.live:
                seen = self.world.training_jobs.describe(name)
                if seen is not None and seen.status == "Stopping":
                    self._end(name, completed=False)
            self.world.clock.now += 61
            reconcile(self.world.here)
            assert len(self.live) <= 1

    def check(self) -> None:
        """What holds whatever happened."""
        job, ledger = self.job, self.world.store.ledger("acme", "2026-09", limit=0)
        log = self.world.store.list_log("acme", self.id, after=0, limit=1000).items
        assert [event.sequence for event in log] == list(range(job.event_seq, 0, -1))
        assert (ledger.reserved, ledger.billed) == (job.reserved, job.billed)
        assert job.billed == sum(-(-one.on_demand_price * one.billable_seconds // 3600) for one in job.attempts)
        if job.terminal or job.state == "paused":
            assert self.live == []
            assert job.reserved == 0

    def _submitted(self, request: JobRequest, *, large: bool) -> JobRecord:
        with pytest.MonkeyPatch.context() as patch:
            if large:
                patch.setattr(submit, "IN_REQUEST_BYTES", 10)
            return submit.submit(self.world.here, "acme", request)

    def _reach(self, state: str) -> None:
        if state in ("validating", "queued"):
            return
        self.world.run_queue()
        secondary = {"running": "Training", "interrupted": "Interrupted", "evaluating": "Uploading"}
        if state in secondary:
            interruptions = 1 if state == "interrupted" else 0
            self.world.training_jobs.observe(
                f"{self.id}-1", secondary_status=secondary[state], interruptions=interruptions
            )
            observe(self.world.here, f"{self.id}-1")
        if state == "paused":
            self.act("pause")
            self.world.run_queue()
            self.act("stopped")

    def _end(self, name: str, *, completed: bool) -> None:
        """A container ends: published, or stopped where it was asked to."""
        seen = self.world.training_jobs.describe(name)
        if completed:
            self.published = True
            folder = layout.job_uri("artifacts", "acme", self.id)
            output = layout.model_output_uri(folder, name) + "report.json"
            self.world.objects.write(output, report(job_id=self.id).model_dump_json().encode())
        elif seen is None or seen.status != "Stopping":
            return
        status = "Completed" if completed else "Stopped"
        self.world.training_jobs.observe(name, status=status, secondary_status=status, **SPENT)
        observe(self.world.here, name)


def expected(story: Story) -> set[str]:
    """The states that a job may rest in after what was accepted."""
    if story.published:
        return {"succeeded"}
    if "cancel" in story.accepted:
        return {"cancelled"}
    wishes = [wish for wish in story.accepted if wish in ("pause", "resume")]
    return {"paused"} if wishes and wishes[-1] == "pause" else {"starting", "running", "interrupted", "evaluating"}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(("first", "second"), [pair for pair in product(ACTS, ACTS) if {*pair} & {*WISHES}])
def test_one_after_the_other(state: str, first: str, second: str) -> None:
    story = Story(state)
    story.act(first)
    story.act(second)
    story.come_to_rest()
    story.check()
    assert story.job.state in expected(story)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(("first", "second"), list(product((*WISHES, "complete"), ACTS)))
def test_one_in_the_middle_of_the_other(state: str, first: str, second: str, monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story(state)
    story.act_while(first, second, monkeypatch)
    story.come_to_rest()
    story.check()
    assert story.job.state in expected(story)


def test_a_cancel_of_a_paused_job_waits_for_the_training_job_that_was_found_alive() -> None:
    story = Story("queued")
    story.act("pause")
    _hide_until_it_was_refused(story)
    assert story.job.state == "paused"
    observe(story.world.here, f"{story.id}-1")
    story.act("cancel")
    assert (story.job.state, story.job.open) == ("cancelled", True)
    story.come_to_rest()
    story.check()
    assert not story.job.open
    assert story.job.billed > 0, "what ran is paid for"


def test_a_resume_of_what_is_still_stopping_says_when_it_can_be_asked() -> None:
    story = Story("running")
    story.act("pause")
    with pytest.raises(Conflict, match="once it is paused"):
        control.resume(story.world.here, "acme", story.id)
    story.come_to_rest()
    story.act("resume")
    story.come_to_rest()
    assert story.live == [f"{story.id}-2"]
    spec_of = story.world.training_jobs.specs
    assert spec_of[f"{story.id}-2"].checkpoints_uri == spec_of[f"{story.id}-1"].checkpoints_uri


def test_a_resume_waits_for_the_training_job_that_was_found_alive() -> None:
    story = Story("queued")
    story.act("pause")
    _hide_until_it_was_refused(story)
    observe(story.world.here, f"{story.id}-1")
    story.act("resume")
    assert story.job.waiting_for == f"training job {story.id}-1 to end"
    story.world.run_queue()
    assert story.live == [f"{story.id}-1"]
    story.come_to_rest()
    assert story.live == [f"{story.id}-2"]
    story.check()


def _hide_until_it_was_refused(story: Story) -> None:
    """A request whose answer was lost starts the training job, and SageMaker shows it only later."""
    world = story.world
    with pytest.MonkeyPatch.context() as hidden:
        hidden.setattr(world.training_jobs, "describe", lambda name: None)
        world.run_queue()
    world.training_jobs.create(spec(name=f"{story.id}-1", job_id=story.id, tenant="acme"))
