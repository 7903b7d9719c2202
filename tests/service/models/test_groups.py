"""What people do with model groups: one of two wins, files are looked at, and what was done can be said again."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from spotune.contracts.errors import Conflict, NotFound, SpotuneError
from spotune.contracts.job import ChampionReference, Decision
from spotune.service.models import groups
from spotune.service.reconcile import reconcile
from tests.factories import job
from tests.in_process import World
from tests.in_process import world as make_world
from tests.service.models.test_registration import news
from tests.service.registered import GROUP, WEIGHTS, group_of, registered, statuses

WHO = {"by": "key-1", "why": "because"}


@pytest.fixture
def world() -> World:
    return make_world()


def promote(world: World, number: int, tenant: str = "acme") -> None:
    groups.promote(world.here, tenant, GROUP, number, **WHO)


def roll_back(world: World, **more: Any) -> int | None:
    return groups.roll_back(world.here, "acme", GROUP, **WHO, **more).champion


def three(world: World) -> None:
    """Version 3 is champion; it came after 2, and that after 1."""
    for number in (1, 2, 3):
        registered(world, number)


def test_a_promotion_says_who_and_why_and_the_outside_is_told_within_a_pass(world: World) -> None:
    registered(world, 1)
    registered(world, 2, champion=None)
    world.deliveries.messages.clear()
    promote(world, 2)
    assert statuses(world) == ["former", "champion"]
    change = group_of(world).history[-1]
    assert (change.by, change.why, change.before) == ("key-1", "because", 1)
    assert reconcile(world.here).models_settled == 2
    assert news(world) == [("model.promoted", "ft:tiny::2")]
    assert sorted(one.status for one in world.registry.shown.values()) == ["champion", "former"]


def test_a_promotion_asked_for_again_changes_nothing(world: World) -> None:
    registered(world, 1)
    registered(world, 2, champion=None)
    promote(world, 2)
    before = group_of(world)
    promote(world, 2)
    assert group_of(world) == before


def test_a_rollback_makes_the_former_files_the_champions_byte_for_byte(world: World) -> None:
    three(world)
    folder = group_champion_uri(world)
    assert roll_back(world) == 2
    assert world.objects.read(group_champion_uri(world) + WEIGHTS) == b"weights of ftjob-2"
    assert roll_back(world) == 1
    assert world.objects.read(group_champion_uri(world) + WEIGHTS) == b"weights of ftjob-1"
    promote(world, 3)
    assert group_champion_uri(world) == folder
    reconcile(world.here)
    assert ("model.rolled_back", "ft:tiny::1") in news(world)


def group_champion_uri(world: World) -> str:
    champion = groups.champion_of(world.here, group_of(world))
    assert champion is not None
    return champion.uri


def test_a_rollback_that_names_the_champion_it_leaves_is_done_once_however_often_it_is_asked_for(world: World) -> None:
    three(world)
    assert [roll_back(world, champion=3) for _ in range(3)] == [2, 2, 2]
    with pytest.raises(Conflict) as refused:
        roll_back(world, champion=1)
    assert refused.value.code == "champion_changed"
    assert [roll_back(world, champion=2) for _ in range(2)] == [1, 1]


def test_there_is_nothing_to_go_back_to_from_the_first_champion_or_from_none(world: World) -> None:
    for decision in ("reject", "promote"):
        registered(world, 1 if decision == "reject" else 2, decision)
        with pytest.raises(Conflict) as refused:
            roll_back(world)
        assert refused.value.code == "nothing_to_roll_back_to"


@pytest.mark.parametrize("damage", ["gone", "changed", "short"])
def test_what_is_not_there_as_it_was_registered_becomes_champion_in_no_way(world: World, damage: str) -> None:
    three(world)
    uri = world.store.get_version("acme", GROUP, 2).uri + WEIGHTS  # type: ignore[union-attr]
    if damage == "gone":
        world.objects.delete(uri)
    else:
        world.objects.write(uri, b"weights of ftjob-X" if damage == "changed" else b"short")
    for act in (lambda: roll_back(world), lambda: promote(world, 2)):
        with pytest.raises(Conflict) as refused:
            act()
        assert refused.value.code == "model_files_gone"
        assert WEIGHTS in str(refused.value)
        assert damage != "short" or "5 bytes instead of 18" in str(refused.value)
    assert group_of(world).champion == 3


def test_the_same_bytes_put_there_again_are_the_same_file(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a restore in parts: another ETag over what was registered."""
    three(world)
    listed = world.objects.list

    def other_etags(prefix: str) -> Any:
        import dataclasses

        return (dataclasses.replace(one, etag=f"{one.etag}-2") for one in listed(prefix))

    monkeypatch.setattr(world.objects, "list", other_etags)
    assert roll_back(world) == 2


def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered(world, 1)
    registered(world, 2, champion=None)
    registered(world, 3, champion=None)
    gate, commit, first = Barrier(2), world.store.commit_group, iter(range(2))

    def commit_together(*arguments: Any) -> None:
        if next(first, None) is not None:
            gate.wait(10)
        commit(*arguments)

    monkeypatch.setattr(world.store, "commit_group", commit_together)

    def attempt(number: int) -> str:
        try:
            promote(world, number)
        except Conflict as refused:
            return refused.code
        return "won"

    with ThreadPoolExecutor(2) as pool:
        answers = sorted(pool.map(attempt, (2, 3)))
    assert answers == ["champion_changed", "won"]
    assert statuses(world).count("champion") == 1


def test_a_registration_or_a_mirror_that_comes_between_makes_no_conflict(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered(world, 1)
    registered(world, 2, champion=None)
    commit, between = world.store.commit_group, iter([lambda: registered(world, 3, "reject"), lambda: touch(world, 2)])

    def commit_after_another(*arguments: Any) -> None:
        for happen in between:
            happen()
            break
        commit(*arguments)

    monkeypatch.setattr(world.store, "commit_group", commit_after_another)
    promote(world, 2)
    assert statuses(world) == ["former", "champion", "rejected"]


def touch(world: World, number: int) -> None:
    version = world.store.get_version("acme", GROUP, number)
    assert version is not None
    world.store.replace_version(version, version.with_(package_arn="arn:again"))


def test_an_approval_promotes_and_a_rejection_is_for_good(world: World) -> None:
    registered(world, 1)
    registered(world, 2, "hold")
    registered(world, 3, "hold")
    assert groups.approve(world.here, "acme", GROUP, 2, **WHO).status == "champion"
    assert groups.approve(world.here, "acme", GROUP, 2, **WHO).status == "champion"
    assert groups.reject(world.here, "acme", GROUP, 3, **WHO).status == "rejected"
    assert groups.reject(world.here, "acme", GROUP, 3, **WHO).status == "rejected"
    for act in (groups.promote, groups.approve):
        with pytest.raises(Conflict):
            act(world.here, "acme", GROUP, 3, **WHO)
    assert statuses(world) == ["former", "champion", "rejected"]


def test_an_approval_of_what_another_champion_overtook_lets_it_pass_and_says_so(world: World) -> None:
    registered(world, 1)
    registered(world, 2, "hold")
    registered(world, 3)
    version = groups.approve(world.here, "acme", GROUP, 2, **WHO)
    assert (version.status, group_of(world).champion) == ("passed", 3)
    assert "is champion by now" in version.history[-1].why
    promote(world, 2)
    assert group_of(world).champion == 2


def test_an_approval_looks_at_the_files(world: World) -> None:
    version = registered(world, 1, "hold")
    world.objects.delete(version.uri + WEIGHTS)
    with pytest.raises(Conflict) as refused:
        groups.approve(world.here, "acme", GROUP, 1, **WHO)
    assert refused.value.code == "model_files_gone"


def test_a_deleted_versions_files_and_package_go_and_its_record_stays(world: World) -> None:
    three(world)
    first = world.store.get_version("acme", GROUP, 1)
    assert first is not None
    groups.delete(world.here, "acme", first.name, by="key-1")
    assert world.objects.head(first.uri + WEIGHTS) is not None, "the reconciler deletes"
    assert reconcile(world.here).models_settled >= 1
    assert list(world.objects.list(first.uri)) == []
    assert first.name not in {one.name for one in world.registry.shown.values()}
    assert statuses(world) == ["deleted", "former", "champion"]
    kept = world.store.get_version("acme", GROUP, 1)
    assert kept is not None
    assert (kept.settled, kept.package_arn, kept.lineage) == (True, None, first.lineage)
    with pytest.raises(NotFound):
        groups.delete(world.here, "acme", first.name, by="key-1")


def test_a_deletion_killed_between_its_steps_is_finished(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    three(world)
    reconcile(world.here)
    first = world.store.get_version("acme", GROUP, 1)
    assert first is not None
    groups.delete(world.here, "acme", first.name, by="key-1")
    delete, calls = world.objects.delete, iter(range(9))

    def die_at_the_second(uri: str) -> None:
        if next(calls) == 1:
            raise RuntimeError("killed")
        delete(uri)

    with monkeypatch.context() as patch:
        patch.setattr(world.objects, "delete", die_at_the_second)
        assert reconcile(world.here).models_settled == 0
    assert reconcile(world.here).models_settled == 1
    assert list(world.objects.list(first.uri)) == []


def test_a_champion_and_what_a_job_reads_are_not_deleted(world: World) -> None:
    three(world)
    with pytest.raises(Conflict) as champion:
        groups.delete(world.here, "acme", "ft:tiny::3", by="key-1")
    assert champion.value.code == "wrong_status"
    second = world.store.get_version("acme", GROUP, 2)
    assert second is not None
    reference = ChampionReference(name=second.name, number=2, uri=second.uri, start=False)
    running = job(id="ftjob-running", state="running", champion=reference)
    world.store.create_job(Decision(job=running), limit=10**9)
    with pytest.raises(Conflict) as used:
        groups.delete(world.here, "acme", second.name, by="key-1")
    assert used.value.code == "model_in_use"
    assert "ftjob-running" in str(used.value)
    groups.delete(world.here, "acme", "ft:tiny::1", by="key-1")


def test_a_promotion_and_a_deletion_of_one_version_at_once_leave_one_of_them_done(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered(world, 1)
    registered(world, 2, champion=None)
    replace = world.store.replace_version

    def promoted_before(*arguments: Any) -> None:
        monkeypatch.setattr(world.store, "replace_version", replace)
        promote(world, 2)
        replace(*arguments)

    monkeypatch.setattr(world.store, "replace_version", promoted_before)
    with pytest.raises(Conflict):
        groups.delete(world.here, "acme", "ft:tiny::2", by="key-1")
    assert statuses(world) == ["former", "champion"]


def test_versions_are_compared_by_the_gates_own_intervals_where_it_has_them(world: World) -> None:
    registered(world, 1)
    registered(world, 2)
    compared = groups.compare(world.here, "acme", GROUP, 1, 2)
    assert (compared.a, compared.b, compared.same_rows) == ("ft:tiny::1", "ft:tiny::2", True)
    assert [one.metric for one in compared.metrics] == ["eval_loss", "exact_match"]


ACTS: list[Callable[[World, str], Any]] = [
    lambda world, tenant: groups.promote(world.here, tenant, GROUP, 1, **WHO),
    lambda world, tenant: groups.roll_back(world.here, tenant, GROUP, **WHO),
    lambda world, tenant: groups.approve(world.here, tenant, GROUP, 1, **WHO),
    lambda world, tenant: groups.reject(world.here, tenant, GROUP, 1, **WHO),
    lambda world, tenant: groups.deprecate(world.here, tenant, GROUP, 1, **WHO),
    lambda world, tenant: groups.delete(world.here, tenant, "ft:tiny::1", by="key-9"),
    lambda world, tenant: groups.compare(world.here, tenant, GROUP, 1, 2),
    lambda world, tenant: groups.list_versions(world.here, tenant, GROUP, after=None, limit=5),
]


@pytest.mark.parametrize("act", ACTS)
def test_another_tenants_group_is_not_there(world: World, act: Callable[[World, str], Any]) -> None:
    three(world)
    before = group_of(world), statuses(world)
    with pytest.raises(SpotuneError) as refused:
        act(world, "globex")
    assert isinstance(refused.value, NotFound)
    assert (group_of(world), statuses(world)) == before
