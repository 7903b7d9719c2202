"""What the reconciler finds and mends: training jobs that nobody waits for, counts that are not their jobs' sums."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NoReturn

import pytest

from spotune.aws.base import AwsRefused, ObjectInfo
from spotune.contracts.errors import Unavailable
from spotune.contracts.events import AttemptRefused
from spotune.service.installation import install
from spotune.service.jobs import submit as submission
from spotune.service.jobs.changes import apply
from spotune.service.jobs.control import cancel
from spotune.service.jobs.counts import QUIET
from spotune.service.jobs.submit import submit
from spotune.service.launch import run_command
from spotune.service.reconcile import CHECK_LIMIT, reconcile
from tests.checkpoints import folder_of, leave_checkpoint
from tests.factories import NOW
from tests.in_process import World
from tests.in_process import world as make_world
from tests.service.test_once import request_of

MONTH = "2026-09"


@pytest.fixture
def world() -> World:
    made = make_world()
    install(made.here)
    return made


def running(world: World) -> str:
    job = submit(world.here, "acme", request_of(world))
    world.run_queue()
    return job.id


def test_a_training_job_that_came_through_late_is_told_to_its_job_and_stopped(world: World) -> None:
    """Its answer was lost, its job was cancelled, and then SageMaker took it."""
    spec = world.training_jobs.specs[f"{running(world)}-1"]
    late = submit(world.here, "acme", request_of(world))
    cancel(world.here, "acme", late.id)
    apply(world.here, late.id, AttemptRefused(name=f"{late.id}-1", reason="cancelled", message=""))
    world.training_jobs.create(replace(spec, name=f"{late.id}-1"))
    repairs = reconcile(world.here)
    world.run_queue()
    assert (repairs.orphans_adopted, repairs.orphans_stopped) == (1, 0)
    assert world.training_jobs.stopped == [f"{late.id}-1"]


def test_a_training_job_of_no_attempt_is_stopped(world: World) -> None:
    job_id = running(world)
    spec = world.training_jobs.specs[f"{job_id}-1"]
    world.training_jobs.create(replace(spec, name="ftjob-unknown-1"))
    world.training_jobs.create(replace(spec, name=f"{job_id}-7"))
    repairs = reconcile(world.here)
    assert (repairs.orphans_adopted, repairs.orphans_stopped) == (0, 2)
    assert world.training_jobs.stopped == ["ftjob-unknown-1", f"{job_id}-7"]


def test_a_training_job_of_another_installation_of_the_account_is_left_alone(world: World) -> None:
    job_id = running(world)
    spec = world.training_jobs.specs[f"{job_id}-1"]
    for name, stage in (("ftjob-theirs-1", "prod"), ("ftjob-strange-1", "")):
        world.training_jobs.create(replace(spec, name=name, stage=stage))
    assert reconcile(world.here).orphans_stopped == 0
    assert world.training_jobs.stopped == []


def test_a_running_attempt_is_no_orphan(world: World) -> None:
    running(world)
    repairs = reconcile(world.here)
    assert (repairs.orphans_adopted, repairs.orphans_stopped, repairs.counts_corrected) == (0, 0, 0)


def test_a_reservation_that_no_job_knows_of_is_given_back_once_nothing_moves(world: World) -> None:
    job_id = running(world)
    job = world.store.find_job(job_id)
    assert job is not None
    ((ledger, tally),) = world.store.ledgers(MONTH)
    world.store.correct_ledger(ledger, tally, ledger.reserved + 1_000_000)
    assert reconcile(world.here).counts_corrected == 0, "it moved a moment ago: the list of jobs may lag behind"
    world.clock.now = NOW + QUIET + 60
    assert reconcile(world.here).counts_corrected == 1
    assert world.store.ledger("acme", MONTH, limit=0).reserved == job.reserved
    assert reconcile(world.here).counts_corrected == 0


def test_a_place_that_nobody_holds_is_given_back(world: World) -> None:
    running(world)
    held = {state.line: (state, tally) for state, tally in world.store.lines()}
    state, tally = held["jobs of acme"]
    world.store.correct_line(state, tally, held=20, waiting=3)
    world.clock.now = NOW + QUIET + 60
    assert reconcile(world.here).counts_corrected == 1
    mended = {state.line: state for state, _ in world.store.lines()}["jobs of acme"]
    assert (mended.held, mended.waiting) == (1, 0)


def test_a_part_that_fails_does_not_keep_the_others_from_their_turn(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    running(world)

    def fail() -> object:
        raise Unavailable("SageMaker does not answer.", code="aws_unavailable")

    monkeypatch.setattr(world.training_jobs, "in_progress", fail)
    ((ledger, tally),) = world.store.ledgers(MONTH)
    world.store.correct_ledger(ledger, tally, 0)
    world.clock.now = NOW + QUIET + 60
    repairs = reconcile(world.here)
    assert (repairs.orphans_adopted, repairs.counts_corrected) == (0, 1)


def test_a_stop_that_did_not_take_is_sent_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = running(world)
    world.training_jobs.observe(f"{job_id}-1", status="InProgress", secondary_status="Training")
    cancel(world.here, "acme", job_id)
    stop = world.training_jobs.stop
    monkeypatch.setattr(world.training_jobs, "stop", lambda name: None)
    world.run_queue()
    monkeypatch.setattr(world.training_jobs, "stop", stop)
    assert world.training_jobs.stopped == []
    world.clock.now += 60
    reconcile(world.here)
    assert world.training_jobs.stopped == [f"{job_id}-1"]


def test_a_list_of_open_jobs_that_cannot_be_read_keeps_no_command_from_the_queue(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(world.here, "acme", request_of(world))
    world.queue.take()
    world.clock.now += 61

    def unreadable() -> object:
        raise ValueError("an item that this version cannot read")

    monkeypatch.setattr(world.store, "active_jobs", unreadable)
    assert reconcile(world.here).commands_queued == 1


def test_counts_are_not_held_against_a_list_that_cannot_be_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    running(world)
    ((before, _),) = world.store.ledgers(MONTH)

    def unreadable() -> object:
        raise Unavailable("the table does not answer.", code="store_unavailable")

    monkeypatch.setattr(world.store, "active_jobs", unreadable)
    world.clock.now = NOW + QUIET + 60
    assert reconcile(world.here).counts_corrected == 0
    ((after, _),) = world.store.ledgers(MONTH)
    assert after == before


def test_a_command_whose_queue_is_long_is_queued_again_ever_more_seldom(world: World) -> None:
    submit(world.here, "acme", request_of(world), "one-key")
    for _ in range(60):
        world.clock.now += 60
        reconcile(world.here)
    copies = len(world.queue.take()) - 1
    assert 10 <= copies <= 20, "an hour's: each minute at first, then one in ten"


def test_where_much_hangs_each_part_and_each_job_has_its_turn_and_no_pass_is_cut_off(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A region takes connections and says nothing: a call is given up after 24 s, and the function after 55."""
    for _ in range(3):
        running(world)
        world.clock.now += 1
    ended, trains = running(world), world.store.find_job(running(world))
    assert trains is not None
    world.training_jobs.observe(f"{ended}-1", status="Stopped", secondary_status="Stopped")
    world.training_jobs.observe(f"{trains.id}-1", secondary_status="Training", started_at=world.clock())
    for step in (10, 20, 30, 40):
        leave_checkpoint(world.objects, trains, step)
    describe, listed = world.training_jobs.describe, world.objects.list

    def hang() -> NoReturn:
        world.clock.now += 24
        raise Unavailable("nothing is said.", code="aws_unavailable")

    def lists(uri: str) -> Iterator[ObjectInfo]:
        return listed(uri) if trains.id in uri else hang()

    monkeypatch.setattr(
        world.training_jobs, "describe", lambda name: describe(name) if name[:-2] in (ended, trains.id) else hang()
    )
    monkeypatch.setattr(world.training_jobs, "in_progress", hang)
    monkeypatch.setattr(world.objects, "list", lists)
    for _ in range(40):
        began = world.clock.now
        reconcile(world.here)
        assert world.clock.now - began <= 55
        world.clock.now = began + 60
    kept = world.store.find_job(ended)
    assert kept is not None
    assert kept.state == "cancelled"
    assert not list(listed(f"{folder_of(trains)}checkpoints/checkpoint-10/"))


def test_a_command_that_cannot_be_read_keeps_nobody_from_theirs(world: World) -> None:
    first, second = (submit(world.here, "acme", request_of(world)) for _ in range(2))
    world.queue.take()
    name = next(name for name in world.store._outbox if name.startswith(first.id))
    world.store._outbox[name] = (world.store._outbox[name][0], b'{"command": {"kind": "of a later version"}}')
    world.clock.now += 90
    assert reconcile(world.here).commands_queued == 1
    assert {message["job_id"] for message in world.queue.take()} == {second.id}


def test_where_sagemaker_does_not_say_whether_a_training_job_exists_none_is_started(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> object:
        raise AwsRefused("AccessDeniedException", "not authorized to perform sagemaker:DescribeTrainingJob")

    job = submit(world.here, "acme", request_of(world))
    (message,) = world.queue.take()
    with monkeypatch.context() as denied:
        denied.setattr(world.training_jobs, "describe", refuse)
        with pytest.raises(Unavailable):
            run_command(world.here, str(message["job_id"]), str(message["entry_id"]))
    assert not world.training_jobs.specs
    run_command(world.here, str(message["job_id"]), str(message["entry_id"]))
    assert list(world.training_jobs.specs) == [f"{job.id}-1"]


def test_a_check_of_files_that_waits_in_the_queue_does_not_run_out_of_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "IN_REQUEST_BYTES", 10)
    job = submit(world.here, "acme", request_of(world))
    assert job.state == "validating"
    world.clock.now += 3 * CHECK_LIMIT
    reconcile(world.here)
    assert world.store.find_job(job.id).state == "validating"

    monkeypatch.setattr(submission, "_prepare", _cut_off)
    (message, *_) = world.queue.take()
    with pytest.raises(Unavailable):
        run_command(world.here, str(message["job_id"]), str(message["entry_id"]))
    world.clock.now += CHECK_LIMIT - 60
    reconcile(world.here)
    assert world.store.find_job(job.id).state == "validating"
    world.clock.now += 120
    reconcile(world.here)
    assert world.store.find_job(job.id).error.code == "check_timed_out"


def _cut_off(*_: object) -> None:
    raise Unavailable("the process was cut off.", code="aws_unavailable")
