"""Superseded checkpoints leave S3 while their job lives, and nothing that anybody needs does."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotune.aws.base import AwsRefused
from spotune.contracts import layout
from spotune.contracts.job import JobRecord
from spotune.contracts.training import MANIFEST_NAME
from spotune.service.installation import install
from spotune.service.jobs import pruning
from spotune.service.jobs.pruning import TAG, prune_checkpoints
from spotune.service.jobs.resumption import find_checkpoint
from spotune.service.jobs.submit import submit
from spotune.service.reconcile import reconcile
from tests import tiny_model
from tests.checkpoints import folder_of, leave_checkpoint, leave_notes
from tests.in_process import World
from tests.in_process import world as make_world
from tests.service.test_once import request_of
from tests.service.test_regions import AWAY, make_cheap

KEEP = 2


@pytest.fixture
def world() -> World:
    made = make_world()
    install(made.here)
    return made


def running(world: World) -> JobRecord:
    job = submit(world.here, "acme", request_of(world))
    world.run_queue()
    found = world.store.find_job(job.id)
    assert found is not None
    there = world.elsewhere.get(found.region, world.training_jobs)
    there.observe(f"{job.id}-1", secondary_status="Training", started_at=world.clock())
    assert found.config is not None
    assert found.config.checkpoint.keep == KEEP
    return found


def files(world: World, job: JobRecord) -> set[str]:
    """Of the job's checkpoints, below their folder."""
    folder = folder_of(job) + "checkpoints/"
    return {one.uri.removeprefix(folder) for one in world.objects.list(folder)}


def steps(world: World, job: JobRecord) -> list[int]:
    folders = {name.partition("/")[0] for name in files(world, job) if "/" in name}
    return sorted(int(name.removeprefix("checkpoint-")) for name in folders)


def part_of_a_checkpoint(world: World, job: JobRecord, step: int) -> None:
    world.objects.write(f"{folder_of(job)}checkpoints/checkpoint-{step}/weights.safetensors", b"so far")


def test_each_look_leaves_the_newest_and_the_best_and_what_lies_beside_them(world: World) -> None:
    job = running(world)
    leave_notes(world.objects, job, step=0, total_steps=100)
    notes = files(world, job)
    for step in range(10, 100, 10):
        world.clock.now += 60
        leave_checkpoint(world.objects, job, step, best_step=20 if step >= 20 else None, created_at=world.clock())
        reconcile(world.here)
        assert len(steps(world, job)) <= KEEP + 1
    assert steps(world, job) == [20, 80, 90]
    assert notes < files(world, job)


def test_what_goes_carries_the_tag_by_which_s3_forgets_its_version(world: World) -> None:
    job = running(world)
    for step in (10, 20, 30, 40):
        leave_checkpoint(world.objects, job, step)
    reconcile(world.here)
    assert steps(world, job) == [30, 40]
    gone = {uri for uri, tag in world.objects.marks.items() if tag == TAG}
    assert {uri.removeprefix(folder_of(job)).partition("/")[2] for uri in gone} == {
        f"checkpoint-{step}/{name}"
        for step in (10, 20)
        for name in ("manifest.json", "optimizer.pt", "state.json", "weights.safetensors")
    }


def test_where_nothing_is_new_a_look_lists_once_and_reads_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = running(world)
    for step in (10, 20, 30):
        leave_checkpoint(world.objects, job, step, best_step=10)
    monkeypatch.setattr(world.objects, "read", lambda uri: pytest.fail(f"{uri} was read"))
    prune_checkpoints(world.here, job)
    assert steps(world, job) == [10, 20, 30]


@pytest.mark.parametrize(
    ("status", "left"),
    [("Downloading", [10, 20, 30, 40]), ("Interrupted", [30, 40]), ("Starting", [30, 40]), ("Uploading", [30, 40])],
)
def test_nothing_goes_while_sagemaker_fetches_what_it_has_listed(world: World, status: str, left: list[int]) -> None:
    job = running(world)
    for step in (10, 20, 30, 40):
        leave_checkpoint(world.objects, job, step)
    world.training_jobs.observe(f"{job.id}-1", secondary_status=status)
    reconcile(world.here)
    assert steps(world, job) == left


def test_nothing_goes_while_sagemaker_fetches_after_a_restart_that_the_record_does_not_show(world: World) -> None:
    job = running(world)
    reconcile(world.here)
    for step in (10, 20, 30, 40):
        leave_checkpoint(world.objects, job, step)
    world.training_jobs.observe(f"{job.id}-1", secondary_status="Downloading")
    reconcile(world.here)
    record = world.store.find_job(job.id)
    assert record is not None
    assert record.attempts[0].secondary_status == "Training", "SageMaker says nothing of the restart"
    assert steps(world, job) == [10, 20, 30, 40]


def test_nothing_more_goes_once_sagemaker_begins_to_fetch(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    job = running(world)
    for step in (10, 20, 30, 40):
        leave_checkpoint(world.objects, job, step)
    delete = world.objects.delete

    def fetch_then(uri: str) -> None:
        world.training_jobs.observe(f"{job.id}-1", secondary_status="Downloading")
        delete(uri)

    monkeypatch.setattr(world.objects, "delete", fetch_then)
    reconcile(world.here)
    assert steps(world, job) == [20, 30, 40]


class Slow:
    """S3 takes so many seconds for each object that is read or deleted."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        for name in ("read", "delete"):
            monkeypatch.setattr(world.objects, name, self._slowly(world, getattr(world.objects, name), seconds))

    def _slowly(self, world: World, call: Callable[[str], object], seconds: float) -> Callable[[str], object]:
        def slow(uri: str) -> object:
            world.clock.now += seconds
            return call(uri)

        return slow


def test_a_thousand_that_nothing_pruned_go_pass_by_pass(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a job has that ran before there was pruning: to read all of them takes longer than a pass may."""
    job = running(world)
    for step in range(10, 3010, 10):
        leave_checkpoint(world.objects, job, step, best_step=20 if step >= 20 else None, created_at=float(step))
    Slow(world, monkeypatch, seconds=0.1)
    left = len(steps(world, job))
    for _ in range(40):
        began = world.clock.now
        reconcile(world.here)
        assert world.clock.now - began < 12
        assert len(steps(world, job)) < left or left == KEEP + 1
        left = len(steps(world, job))
        world.clock.now += 60
    assert steps(world, job) == [20, 2990, 3000]


def test_a_further_attempt_waits_until_all_that_are_superseded_are_gone(world: World) -> None:
    job = running(world)
    for step in range(10, 1010, 10):
        leave_checkpoint(world.objects, job, step, best_step=500 if step >= 500 else None, created_at=float(step))
    prune_checkpoints(world.here, job)
    assert steps(world, job) == [500, 990, 1000]


def test_where_time_is_up_nothing_is_read_and_nothing_goes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    job = running(world)
    for step in (10, 20, 30, 40):
        leave_checkpoint(world.objects, job, step)
    with monkeypatch.context() as reading:
        reading.setattr(world.objects, "read", lambda uri: pytest.fail(f"{uri} was read"))
        prune_checkpoints(world.here, job, lambda: False)
    assert steps(world, job) == [10, 20, 30, 40]


def test_what_is_newer_than_the_newest_whole_one_stays_whatever_it_is(world: World) -> None:
    job = running(world)
    for step in (10, 20, 30, 40):
        leave_checkpoint(world.objects, job, step)
    part_of_a_checkpoint(world, job, 50)
    cut_off = leave_checkpoint(world.objects, job, 60)
    world.objects.delete(cut_off + "optimizer.pt")
    world.objects.write(f"{folder_of(job)}checkpoints/checkpoint-70/{MANIFEST_NAME}", b"{")
    prune_checkpoints(world.here, job)
    assert steps(world, job) == [30, 40, 50, 60, 70]


def test_what_never_became_whole_goes_once_a_newer_one_is(world: World) -> None:
    job = running(world)
    leave_checkpoint(world.objects, job, 10)
    part_of_a_checkpoint(world, job, 20)
    prune_checkpoints(world.here, job)
    assert steps(world, job) == [10, 20], "it may be on its way"
    leave_checkpoint(world.objects, job, 30)
    prune_checkpoints(world.here, job)
    assert steps(world, job) == [10, 30]


def test_a_best_one_that_is_on_its_way_still_is_left_to_arrive(world: World) -> None:
    job = running(world)
    part_of_a_checkpoint(world, job, 20)
    for step in (10, 30, 40):
        leave_checkpoint(world.objects, job, step, best_step=20)
    prune_checkpoints(world.here, job)
    assert steps(world, job) == [20, 30, 40]


def test_what_a_resume_goes_back_to_while_the_best_one_is_missing_stays(world: World) -> None:
    job = running(world)
    for step, best in ((10, 10), (20, 10), (30, 30), (40, 30), (50, 30)):
        folder = leave_checkpoint(world.objects, job, step, best_step=best)
        if step == 30:
            world.objects.delete(folder + MANIFEST_NAME)
    prune_checkpoints(world.here, job)
    assert steps(world, job) == [10, 20, 30, 40, 50]
    found = find_checkpoint(world.here, job)
    assert found is not None
    assert (found.written.state.step, found.best_step) == (20, 10)


def test_after_a_step_back_the_last_that_were_made_stay_however_high_the_steps_of_damaged_ones(world: World) -> None:
    """The bytes of 30 and 40 did not verify, so the run went on from 20. S3 shows sizes alone."""
    job = running(world)
    for step in (10, 20, 30, 40, 22, 24, 26):
        world.clock.now += 60
        leave_checkpoint(world.objects, job, step, created_at=world.clock())
        prune_checkpoints(world.here, job)
    assert steps(world, job) == [24, 26, 30, 40]


def test_after_a_step_back_the_best_one_that_the_last_ones_name_stays(world: World) -> None:
    """The bytes of 30 and 40 did not verify: of the run that went on from 20, the best one is 22, not 30."""
    job = running(world)
    for step, best in ((10, 10), (20, 10), (30, 30), (40, 30), (22, 22), (24, 22), (26, 22)):
        world.clock.now += 60
        leave_checkpoint(world.objects, job, step, best_step=best, created_at=world.clock())
        prune_checkpoints(world.here, job)
    assert steps(world, job) == [22, 24, 26, 30, 40]


class Refusing:
    """Lets so many deletions through, and then none."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch, let_through: int) -> None:
        self._delete, self._left = world.objects.delete, let_through
        monkeypatch.setattr(world.objects, "delete", self)

    def __call__(self, uri: str) -> None:
        if not self._left:
            raise AwsRefused("AccessDenied", "no")
        self._left -= 1
        self._delete(uri)


@pytest.mark.parametrize("let_through", range(9))
def test_a_pass_that_is_cut_off_shows_nobody_half_a_checkpoint_and_is_finished_by_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, let_through: int
) -> None:
    job = running(world)
    for step in (10, 20, 30, 40):
        leave_checkpoint(world.objects, job, step)
    with monkeypatch.context() as refusing, caplog.at_level(logging.ERROR):
        Refusing(world, refusing, let_through)
        assert reconcile(world.here).jobs_failed == 0, "the look itself succeeds"
    assert ("superseded checkpoints" in caplog.text) == (let_through < 8)
    there = files(world, job)
    for step in (10, 20):
        of_step = {name for name in there if name.startswith(f"checkpoint-{step}/")}
        assert f"checkpoint-{step}/{MANIFEST_NAME}" not in of_step or len(of_step) == 4
    for step in (50, 60):
        leave_checkpoint(world.objects, job, step)
    reconcile(world.here)
    assert steps(world, job) == [50, 60]


def test_two_passes_at_once_delete_what_one_would(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    job = running(world)
    for step in (10, 20, 30, 40):
        leave_checkpoint(world.objects, job, step)
    mark, other = world.objects.mark, iter([prune_checkpoints])

    def meanwhile(uri: str, key: str, value: str) -> None:
        for prune in other:
            prune(world.here, job)
        mark(uri, key, value)

    monkeypatch.setattr(world.objects, "mark", meanwhile)
    prune_checkpoints(world.here, job)
    assert steps(world, job) == [30, 40]


def test_what_a_late_sync_brings_up_again_goes_with_the_next_pass(world: World) -> None:
    job = running(world)
    for step in (10, 20, 30, 40):
        leave_checkpoint(world.objects, job, step)
    prune_checkpoints(world.here, job)
    part_of_a_checkpoint(world, job, 20)
    prune_checkpoints(world.here, job)
    assert steps(world, job) == [30, 40]


def test_a_further_attempt_begins_with_what_a_resume_needs_alone(world: World) -> None:
    job = running(world)
    for step in (10, 20, 30, 40, 50):
        leave_checkpoint(world.objects, job, step)
    failure = "InternalServerError: We encountered an internal error. Please try again."
    world.training_jobs.observe(f"{job.id}-1", status="Failed", secondary_status="Failed", failure_reason=failure)
    reconcile(world.here)
    for step in (60, 70):
        leave_checkpoint(world.objects, job, step)
    world.clock.now += 600
    world.run_queue()
    assert f"{job.id}-2" in world.training_jobs.specs
    assert steps(world, job) == [60, 70]


def test_checkpoints_in_a_further_region_go_too_and_no_others() -> None:
    world = make_world(further_regions=(AWAY,))
    install(world.here)
    make_cheap(world)
    world.objects.write(layout.base_model_uri("models", tiny_model.NAME) + "model.safetensors", bytes(1000))
    job = running(world)
    assert job.region == AWAY
    for step in (10, 20, 30, 40):
        at_home = leave_checkpoint(world.objects, job, step)
        for one in list(world.objects.list(at_home)):
            world.objects.copy(one.uri, one.uri.replace(folder_of(job), world.here.job_folder(job)))
    reconcile(world.here)
    there = {one.uri for one in world.objects.list(world.here.job_folder(job) + "checkpoints/")}
    assert {uri.partition("checkpoint-")[2].partition("/")[0] for uri in there} == {"30", "40"}
    assert steps(world, job) == [10, 20, 30, 40]


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_pruning_changes_nothing_of_what_a_resume_finds(data: st.DataObject) -> None:
    """Over checkpoints of which each may have lost a file on its way, looked at after any of them."""
    world = make_world()
    install(world.here)
    job = running(world)
    best: int | None = None
    for step in range(1, data.draw(st.integers(1, 12))):
        best = step if data.draw(st.booleans()) else best
        folder = leave_checkpoint(world.objects, job, step, best_step=best, created_at=float(step))
        if data.draw(st.integers(0, 3)) == 0:
            world.objects.delete(folder + data.draw(st.sampled_from(["optimizer.pt", MANIFEST_NAME])))
        before = find_checkpoint(world.here, job)
        if data.draw(st.booleans()):
            prune_checkpoints(world.here, job)
        assert find_checkpoint(world.here, job) == before


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_start_brings_back_no_more_checkpoints_than_the_disk_is_planned_for(data: st.DataObject) -> None:
    """Over machines that are lost, each after one whole checkpoint at least, while the next one is on its way."""
    world = make_world()
    install(world.here)
    job = running(world)
    assert job.config is not None
    step, best = 0, None
    for _ in range(data.draw(st.integers(1, 4))):
        for _ in range(data.draw(st.integers(1, 4))):
            step += 1
            best = step if data.draw(st.booleans()) else best
            leave_checkpoint(world.objects, job, step, best_step=best, created_at=float(step))
            prune_checkpoints(world.here, job)
        if data.draw(st.booleans()):
            part_of_a_checkpoint(world, job, step := step + 1)
        prune_checkpoints(world.here, job)
        assert len(steps(world, job)) <= job.config.checkpoint.restored < job.config.checkpoint.at_most


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_whatever_goes_bit_by_bit_would_have_gone_at_once(data: st.DataObject) -> None:
    """Over many checkpoints, of which each may have lost a file on its way, and which a few are read of at a time."""
    world = make_world()
    install(world.here)
    job = running(world)
    best: int | None = None
    for step in range(1, data.draw(st.integers(1, 30))):
        best = step if data.draw(st.integers(0, 4)) == 0 else best
        folder = leave_checkpoint(world.objects, job, step, best_step=best, created_at=float(step))
        if data.draw(st.integers(0, 3)) == 0:
            world.objects.delete(folder + data.draw(st.sampled_from(["optimizer.pt", MANIFEST_NAME])))
    before = find_checkpoint(world.here, job)
    with pytest.MonkeyPatch.context() as few:
        few.setattr(pruning, "AT_A_TIME", data.draw(st.integers(1, 4)))
        prune_checkpoints(world.here, job)
    bit_by_bit = steps(world, job)
    assert find_checkpoint(world.here, job) == before
    prune_checkpoints(world.here, job)
    at_once = steps(world, job)
    assert set(at_once) <= set(bit_by_bit)
    assert find_checkpoint(world.here, job) == before


@pytest.mark.parametrize(
    ("best", "partial", "damaged", "left"),
    [
        ({1: 1, 2: 1, 4: 3, 5: 3, 6: 3, 8: 3, 9: 3, 10: 10}, 3, (4, 8, 9), [3, 6, 10]),
        ({1: 1, 2: 1, 3: 3, 4: 3, 5: 1, 6: 1, 8: 7, 9: 7, 10: 7}, None, (), [1, 3, 6, 9, 10]),
    ],
    ids=["the second newest whole one is not among the newest", "a resume goes further back than the newest"],
)
def test_nothing_old_goes_while_those_that_name_what_stays_are_not_read(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    best: dict[int, int],
    partial: int | None,
    damaged: tuple[int, ...],
    left: list[int],
) -> None:
    job = running(world)
    for step, best_step in best.items():
        folder = leave_checkpoint(world.objects, job, step, best_step=best_step, created_at=float(step))
        if step in damaged:
            world.objects.delete(folder + "optimizer.pt")
    if partial is not None:
        part_of_a_checkpoint(world, job, partial)
    monkeypatch.setattr(pruning, "AT_A_TIME", 3)
    prune_checkpoints(world.here, job)
    assert steps(world, job) == left
