"""What no event told: objects that landed unheard, deletions, undone deletions, and checks that were cut off."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from spotune.aws.base import AwsRefused, ObjectMissing
from spotune.contracts.errors import Unavailable
from spotune.contracts.sources import parse_grants
from spotune.service.installation import install
from spotune.service.reconcile import reconcile
from spotune.service.retraining import sweep as sweeping
from spotune.service.retraining.sweep import CHECKING, SETTLED, sweep
from spotune.service.work import run
from tests import tiny_model
from tests.in_process import World
from tests.in_process import world as make_world
from tests.landings import Landings, arrivals, made_rule, rows, states, stored

IN = "s3://data/acme/in/"


@pytest.fixture
def world() -> World:
    made = make_world(versionless={"plain"}, sources=parse_grants("acme=plain"))
    install(made.here)
    return made


@pytest.fixture
def lands(world: World) -> Landings:
    return Landings(world)


def swept(world: World, rule_id: str = "rule-support") -> int:
    """One sweep, once what happened has settled."""
    world.clock.now += SETTLED + 1
    return sweep(world.here, stored(world, rule_id)).found


def test_an_object_whose_event_was_lost_is_found_once(world: World, lands: Landings) -> None:
    made_rule(world)
    lost = lands.put(f"{IN}a b+c.jsonl", rows(1, 2))
    lands.land(f"{IN}told.jsonl", rows(3))
    assert [swept(world) for _ in range(3)] == [1, 0, 0]
    assert sorted(states(world)) == ["accepted", "accepted"]
    assert stored(world).pending_rows == 3
    lands.send(lost)
    assert stored(world).pending_rows == 3, "its event, late after all, changes nothing"


def test_an_object_whose_event_may_still_come_is_left_to_it(world: World, lands: Landings) -> None:
    made_rule(world)
    lands.put(f"{IN}a.jsonl", rows(1))
    assert sweep(world.here, stored(world)).found == 0
    assert arrivals(world) == []


def test_what_was_there_before_the_rule_is_its_data_at_once(
    world: World, lands: Landings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "SWEPT", 3)
    for number in range(10):
        lands.put(f"{IN}{number}.jsonl", rows(number))
    world.clock.now += 10
    made_rule(world)
    world.queue.send({"rule_id": "rule-support", "sweep": True})
    world.run_queue()
    assert stored(world).pending_rows == 10


def test_a_sweep_stops_in_time_and_goes_on_after_the_last_file_that_it_read(
    world: World, lands: Landings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_rule(world)
    for number in range(3):
        lands.put(f"{IN}{number}.jsonl", rows(number))
    world.clock.now += SETTLED + 1
    stream = world.objects.stream

    def slow(uri: str, **pinned: str) -> Iterator[bytes]:
        world.clock.now += sweeping.READING
        return stream(uri, **pinned)

    monkeypatch.setattr(world.objects, "stream", slow)
    assert [sweep(world.here, stored(world)).found for _ in range(3)] == [2, 1, 0]
    assert stored(world).pending_rows == 3


def test_what_is_no_data_and_what_is_ours_is_passed_over(world: World, lands: Landings) -> None:
    made_rule(world, request={"source": {"uri": "s3://data/acme/**"}})
    for name in ("in/_SUCCESS", "in/empty", "rules/rule-support/1/training.jsonl", "files/file-a/a.jsonl"):
        lands.put(f"s3://data/acme/{name}", b"" if name == "in/empty" else rows(1))
    assert swept(world) == 0
    assert arrivals(world) == []


def test_a_bad_file_that_was_found_is_quarantined(world: World, lands: Landings) -> None:
    made_rule(world)
    lands.put(f"{IN}bad.jsonl", b"nonsense\n")
    assert [swept(world), swept(world)] == [1, 0]
    assert states(world) == ["quarantined"]


def test_a_deletion_that_nobody_told_drops_the_file(world: World, lands: Landings) -> None:
    made_rule(world)
    lands.land(f"{IN}a.jsonl", rows(1))
    lands.land(f"{IN}b.jsonl", rows(2, 3))
    lands.delete(f"{IN}a.jsonl")
    lands.delete_version(f"{IN}b.jsonl", arrivals(world)[1].version_id)
    assert swept(world) == 2
    assert stored(world).pending_rows == 0
    assert swept(world) == 0


def test_a_deletion_that_was_undone_counts_again(world: World, lands: Landings) -> None:
    made_rule(world)
    lands.land(f"{IN}a.jsonl", rows(1, 2))
    deleted = lands.delete(f"{IN}a.jsonl")
    lands.send(deleted)
    assert stored(world).pending_rows == 0
    lands.send(lands.delete_version(f"{IN}a.jsonl", deleted["detail"]["object"]["version-id"]))
    assert swept(world) == 1
    assert stored(world).pending_rows == 2
    assert swept(world) == 0


def test_an_older_version_is_the_present_one_again_once_the_later_is_gone(world: World, lands: Landings) -> None:
    made_rule(world)
    lands.land(f"{IN}a.jsonl", rows(1, 2))
    lands.land(f"{IN}a.jsonl", rows(3))
    later = arrivals(world)[1]
    lands.send(lands.delete_version(later.uri, later.version_id))
    assert stored(world).pending_rows == 0
    assert swept(world) == 1
    assert stored(world).pending_rows == 2


def test_a_bucket_without_versions_is_swept_by_etags(world: World, lands: Landings) -> None:
    made_rule(world, request={"source": {"uri": "s3://plain/in/"}})
    lands.put("s3://plain/in/lost.jsonl", rows(1))
    lands.land("s3://plain/in/a.jsonl", rows(2))
    lands.land("s3://plain/in/b.jsonl", rows(3))
    lands.put("s3://plain/in/a.jsonl", rows(4, 5))
    lands.delete("s3://plain/in/b.jsonl")
    for _ in range(3):
        swept(world)
    assert stored(world).pending_rows == 3
    assert sorted(states(world)) == ["accepted", "accepted", "gone", "superseded"]


def test_a_sweep_goes_on_where_the_one_before_stopped_and_begins_anew_at_the_end(
    world: World, lands: Landings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "SWEPT", 3)
    made_rule(world)
    for number in range(7):
        lands.put(f"{IN}{number}.jsonl", rows(number))
    assert [swept(world) for _ in range(5)] == [3, 3, 1, 0, 0]
    lands.put(f"{IN}0-later.jsonl", rows(100))
    assert sum(swept(world) for _ in range(4)) == 1
    assert stored(world).pending_rows == 8


def test_a_source_that_is_not_there_is_no_fault_of_the_sweep(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(prefix_uri: str, *, after: str = "") -> Iterator[None]:
        raise ObjectMissing(prefix_uri, "NoSuchBucket")
        yield

    made_rule(world)
    monkeypatch.setattr(world.objects, "versions", missing)
    assert swept(world) == 0


def test_a_source_that_may_not_be_listed_holds_up_nothing_else_of_its_rule(
    world: World, lands: Landings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AwsRefused("AccessDenied", "not yours")

    made_rule(world, request={"job": {"model": tiny_model.NAME}, "trigger": {"min_rows": 10}})
    lands.land(f"{IN}a.jsonl", rows(*range(20)))
    world.clock.now += 600
    monkeypatch.setattr(world.objects, "versions", refused)
    run(world.here, {"rule_id": "rule-support", "sweep": True})
    assert stored(world).live == 1


def test_a_check_that_was_cut_off_is_found_by_the_reconciler(
    world: World, lands: Landings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object, **__: object) -> None:
        raise Unavailable("S3 does not answer.", code="aws_unavailable")

    made_rule(world)
    event = lands.put(f"{IN}a.jsonl", rows(1, 2))
    with monkeypatch.context() as patch:
        patch.setattr(world.objects, "stream", silent)
        assert lands.send(event) == [0]
    assert states(world) == ["arrived"]
    for _ in range(CHECKING // 60 + 3):
        world.clock.now += 60
        reconcile(world.here)
        world.run_queue()
    assert states(world) == ["accepted"]
    assert stored(world).pending_rows == 2


@pytest.mark.parametrize("deleted", [False, True])
def test_a_rule_that_is_off_or_deleted_leaves_no_check_behind(
    world: World, lands: Landings, monkeypatch: pytest.MonkeyPatch, deleted: bool
) -> None:
    def silent(*_: object, **__: object) -> None:
        raise Unavailable("S3 does not answer.", code="aws_unavailable")

    rule = made_rule(world)
    with monkeypatch.context() as patch:
        patch.setattr(world.objects, "stream", silent)
        lands.send(lands.put(f"{IN}a.jsonl", rows(1, 2)))
    off = rule.with_(request=rule.request.with_(enabled=False), deleted_at=world.clock() if deleted else None)
    world.store.replace_rule(rule, off)
    for _ in range(CHECKING // 60 + 3):
        world.clock.now += 60
        reconcile(world.here)
        world.run_queue()
    assert list(world.store.waiting_arrivals(world.clock())) == []
    assert states(world) == ["gone" if deleted else "accepted"]


def test_each_rule_is_swept_once_an_hour(world: World, lands: Landings) -> None:
    made_rule(world)
    lands.put(f"{IN}a.jsonl", rows(1, 2))
    world.clock.now += SETTLED
    sweeps = 0
    for _ in range(60):
        world.clock.now += 60
        reconcile(world.here)
        sweeps += sum(bool(message.get("sweep")) for message in world.queue.messages)
        world.run_queue()
    assert sweeps == 1
    assert stored(world).pending_rows == 2
