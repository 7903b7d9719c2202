"""Model groups and their versions: what every store must do with them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from spotune.contracts.errors import VersionConflict
from spotune.contracts.models import ModelGroup, ModelVersion, StatusChange
from spotune.store.base import Store
from tests.factories import NOW, model_version


def group(name: str = "support", **changes: object) -> ModelGroup:
    return ModelGroup.model_validate({"name": name, "tenant": "acme", "created_at": NOW, **changes})


def committed(store: Store, *numbers: int, name: str = "support", tenant: str = "acme") -> None:
    """A group with these versions in it."""
    versions = tuple((None, model_version(number, group=name, tenant=tenant)) for number in numbers)
    store.commit_group(None, group(name, tenant=tenant, versions=len(numbers)), versions)


def found(store: Store, name: str = "support") -> ModelGroup:
    kept = store.get_group("acme", name)
    assert kept is not None
    return kept


def version_of(store: Store, number: int) -> ModelVersion:
    kept = store.get_version("acme", "support", number)
    assert kept is not None
    return kept


def test_a_group_and_its_versions_are_read_back_as_they_were(store: Store) -> None:
    made = model_version(1, verdict_reason="x" * 5000)
    store.commit_group(None, group(champion=1, versions=1), ((None, made),))
    assert found(store) == group(champion=1, versions=1, version=1)
    assert version_of(store, 1) == made.with_(version=1)
    assert store.find_version("acme", made.name) == made.with_(version=1)


def test_a_commit_replaces_what_was_read_and_nothing_else(store: Store) -> None:
    committed(store, 1, 2)
    before, first, second = found(store), version_of(store, 1), version_of(store, 2)
    pairs = ((first, first.with_(status="champion")), (second, second.with_(status="rejected")))
    store.commit_group(before, before.with_(champion=1), pairs)
    assert (found(store).champion, found(store).version) == (1, 2)
    assert [version_of(store, number).status for number in (1, 2)] == ["champion", "rejected"]
    with pytest.raises(VersionConflict):
        store.commit_group(before, before.with_(champion=2), ())
    assert found(store).champion == 1


@pytest.mark.parametrize("stale", ["group", "version", "new version", "new group"])
def test_nothing_is_written_where_one_record_changed_meanwhile(store: Store, stale: str) -> None:
    committed(store, 1, 2)
    before, first = found(store), version_of(store, 1)
    crowned = first.with_(status="champion")
    old_group = {"group": before.with_(version=7), "new group": None}.get(stale, before)
    old_first = first.with_(version=7) if stale == "version" else first
    third = model_version(2 if stale == "new version" else 3)
    with pytest.raises(VersionConflict):
        store.commit_group(old_group, before.with_(champion=1), ((old_first, crowned), (None, third)))
    assert found(store) == before
    assert version_of(store, 1) == first
    assert store.get_version("acme", "support", 3) is None


def test_a_name_belongs_to_one_version(store: Store) -> None:
    committed(store, 1)
    before = found(store)
    again = model_version(2, name=model_version(1).name)
    with pytest.raises(VersionConflict):
        store.commit_group(before, before.with_(versions=2), ((None, again),))
    assert store.get_version("acme", "support", 2) is None


def test_a_version_of_another_group_is_refused(store: Store) -> None:
    for stranger in (model_version(1, group="other"), model_version(1, tenant="globex")):
        with pytest.raises(ValueError, match="cannot be written"):
            store.commit_group(None, group(), ((None, stranger),))
    assert store.get_group("acme", "support") is None


def test_versions_come_newest_first_page_by_page(store: Store) -> None:
    committed(store, *range(1, 13))
    numbers, after, more = [], 0, True
    while more:
        page = store.list_versions("acme", "support", after=after, limit=5)
        numbers += [version.number for version in page.items]
        after, more = numbers[-1], page.has_more
    assert numbers == list(range(12, 0, -1))
    assert store.list_versions("acme", "none", after=0, limit=5).items == ()
    assert store.list_versions("acme", "support", after=1, limit=5).items == ()


def test_groups_come_by_name_page_by_page(store: Store) -> None:
    for name in ("b", "a", "C", "d"):
        committed(store, name=name)
    committed(store, name="stranger", tenant="globex")
    first = store.list_groups("acme", after=None, limit=3)
    rest = store.list_groups("acme", after=first.items[-1].name, limit=3)
    assert [one.name for one in first.items + rest.items] == ["C", "a", "b", "d"]
    assert (first.has_more, rest.has_more) == (True, False)


def test_another_tenants_models_look_missing(store: Store) -> None:
    committed(store, 1)
    assert store.get_group("globex", "support") is None
    assert store.get_version("globex", "support", 1) is None
    assert store.find_version("globex", model_version(1).name) is None
    assert store.list_groups("globex", after=None, limit=5).items == ()
    assert store.list_versions("globex", "support", after=0, limit=5).items == ()
    committed(store, 1, tenant="globex")
    assert store.find_version("globex", model_version(1).name) == model_version(1, tenant="globex", version=1)


def test_tenants_and_groups_whose_names_run_together_are_kept_apart(store: Store) -> None:
    committed(store, 1, name="b-c", tenant="a")
    committed(store, 1, 2, name="c", tenant="a-b")
    assert len(store.list_versions("a", "b-c", after=0, limit=5).items) == 1
    assert len(store.list_versions("a-b", "c", after=0, limit=5).items) == 2


@pytest.mark.parametrize("base", ["b" * 200, "\u4f60" * 200, "org/model name"])
def test_a_models_name_may_be_as_long_as_its_bases_and_whatever_that_is(store: Store, base: str) -> None:
    made = model_version(1, name=f"ft:{base}:{'s' * 64}:vgfx4gwwysymw2y77s2vzbdx")
    store.commit_group(None, group(versions=1), ((None, made),))
    assert store.find_version("acme", made.name) == made.with_(version=1)
    assert [one.name for one in store.unsettled_versions()] == [made.name]


@pytest.mark.parametrize("strange", ["", "x" * 3000, "\u00e9", "a\nb"])
def test_a_name_that_nothing_could_have_is_missing(store: Store, strange: str) -> None:
    assert store.get_group("acme", strange) is None
    assert store.find_version("acme", strange) is None
    assert store.get_version("acme", strange, 1) is None
    assert store.list_versions("acme", strange, after=0, limit=1).items == ()


def test_a_version_is_replaced_only_as_it_was_read(store: Store) -> None:
    committed(store, 1)
    first = version_of(store, 1)
    store.replace_version(first, first.with_(status="deprecated"))
    assert (version_of(store, 1).status, version_of(store, 1).version) == ("deprecated", 2)
    with pytest.raises(VersionConflict):
        store.replace_version(first, first.with_(status="rejected"))
    missing = model_version(9, version=1)
    with pytest.raises(VersionConflict):
        store.replace_version(missing, missing)
    assert store.get_version("acme", "support", 9) is None


def test_versions_are_unsettled_until_the_outside_knows_them_as_they_are(store: Store) -> None:
    committed(store, 1, 2, 3)
    assert [one.number for one in store.unsettled_versions()] == [1, 2, 3]
    for number in (1, 3):
        version = version_of(store, number)
        store.replace_version(version, version.with_(mirrored=True, told=1))
    assert [one.number for one in store.unsettled_versions()] == [2]
    third = version_of(store, 3)
    change = StatusChange(sequence=2, status="deprecated", at=NOW - 50, by="key_1")
    store.replace_version(third, third.with_(history=(*third.history, change)))
    assert [one.number for one in store.unsettled_versions()] == [3, 2], "the longest unchanged comes first"


def test_of_promotions_at_once_one_wins(store: Store) -> None:
    committed(store, *range(1, 7))
    before, gate = found(store), Barrier(6)

    def promote(number: int) -> int | None:
        version = version_of(store, number)
        gate.wait()
        try:
            store.commit_group(before, before.with_(champion=number), ((version, version.with_(status="champion")),))
        except VersionConflict:
            return None
        return number

    with ThreadPoolExecutor(6) as pool:
        won = [number for number in pool.map(promote, range(1, 7)) if number is not None]
    assert won == [found(store).champion]
    champions = [
        one.number for one in store.list_versions("acme", "support", after=0, limit=9).items if one.status == "champion"
    ]
    assert champions == won
