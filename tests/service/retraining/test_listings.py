"""`.dvc` files among a rule's new data: the objects that they name are the data, and no others."""

from __future__ import annotations

import json
from hashlib import md5
from itertools import permutations

import pytest

from spotune.contracts.errors import Unavailable
from spotune.contracts.rules import Arrival
from spotune.data.dvc import MAX_FILE_BYTES
from spotune.service.installation import install
from spotune.service.retraining import listings
from spotune.service.retraining.sweep import check_again, sweep
from tests.in_process import World
from tests.in_process import world as make_world
from tests.landings import Event, Landings, arrivals, made_rule, rows, stored

IN = "s3://data/acme/in"
REMOTE = "s3://data/acme/store"


@pytest.fixture
def world() -> World:
    made = make_world()
    install(made.here)
    made_rule(made, request={"source": {"uri": f"{IN}/**", "dvc_remote": f"{REMOTE}/"}})
    return made


@pytest.fixture
def lands(world: World) -> Landings:
    return Landings(world)


def pushed(world: World, body: bytes, suffix: str = "", *, layout: str = "files/md5/") -> str:
    """What `dvc push` does with a file; its MD5."""
    digest = md5(body).hexdigest()
    world.objects.write(object_of(digest + suffix, layout), body)
    return digest + suffix


def object_of(digest: str, layout: str = "files/md5/") -> str:
    return f"{REMOTE}/{layout}{digest[:2]}/{digest[2:]}"


def tracked(*digests: str, kind: str = "  hash: md5\n") -> bytes:
    outs = (f"- md5: {digest}\n{kind}  path: part-{number}.jsonl\n" for number, digest in enumerate(digests))
    return ("outs:\n" + "".join(outs)).encode()


def by_state(world: World) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in arrivals(world):
        found.setdefault(one.state, []).append(one.uri)
    return {state: sorted(uris) for state, uris in found.items()}


def one_of(world: World, state: str) -> Arrival:
    (found,) = [one for one in arrivals(world) if one.state == state]
    return found


def test_the_objects_that_it_names_count_and_it_itself_does_not(world: World, lands: Landings) -> None:
    first, second = pushed(world, rows(1, 2)), pushed(world, rows(3))
    lands.land(f"{IN}/set.dvc", tracked(first, second))
    assert by_state(world) == {"accepted": sorted([object_of(first), object_of(second)]), "listed": [f"{IN}/set.dvc"]}
    rule = stored(world)
    assert (rule.pending_rows, rule.sequence) == (3, 2)
    assert one_of(world, "listed").reason == "it stands for 2 file(s)"


def test_a_folder_s_files_and_the_layout_of_dvc_2_are_found(world: World, lands: Landings) -> None:
    inside = pushed(world, rows(1, 2), layout="")
    listing = json.dumps([{"md5": inside, "relpath": "a.jsonl"}]).encode()
    folder = pushed(world, listing, ".dir", layout="")
    lands.land(f"{IN}/set.dvc", tracked(folder, kind=""))
    assert by_state(world)["accepted"] == [object_of(inside, "")]


def test_events_again_and_again_count_once(world: World, lands: Landings) -> None:
    event = lands.put(f"{IN}/set.dvc", tracked(pushed(world, rows(1, 2))))
    for _ in range(20):
        assert lands.send(event, event) == []
    assert (stored(world).pending_rows, len(arrivals(world))) == (2, 2)


def test_two_that_name_one_object_have_it_once(world: World, lands: Landings) -> None:
    digest = pushed(world, rows(1, 2))
    lands.land(f"{IN}/a.dvc", tracked(digest))
    lands.land(f"{IN}/b.dvc", tracked(digest, digest))
    assert (stored(world).pending_rows, len(by_state(world)["accepted"])) == (2, 1)


@pytest.mark.parametrize("deleted", [True, False])
def test_what_another_one_names_still_counts(world: World, lands: Landings, deleted: bool) -> None:
    shared, own = pushed(world, rows(1, 2)), pushed(world, rows(3))
    lands.land(f"{IN}/a.dvc", tracked(shared, own))
    lands.land(f"{IN}/b.dvc", tracked(shared))
    if deleted:
        lands.send(lands.delete(f"{IN}/a.dvc"))
    else:
        lands.land(f"{IN}/a.dvc", tracked(own))
    left = 0 if deleted else 1
    assert object_of(shared) in by_state(world)["accepted"]
    assert stored(world).pending_rows == 2 + left
    lands.send(lands.delete(f"{IN}/b.dvc"))
    assert stored(world).pending_rows == left, "nobody names it any more"


def versions(world: World, lands: Landings) -> tuple[list[Event], str, str, str]:
    """Two versions of a `.dvc` file: the first names a and b, the second b and c."""
    a, b, c = (pushed(world, rows(number)) for number in (1, 2, 3))
    events = [lands.put(f"{IN}/set.dvc", tracked(*named)) for named in ((a, b), (b, c))]
    return events, a, b, c


def test_a_later_version_takes_back_what_it_does_not_name_in_any_order_of_events(world: World, lands: Landings) -> None:
    events, a, b, c = versions(world, lands)
    for order in permutations([0, 1, 0, 1]):
        assert lands.send(*(events[number] for number in order)) == []
    found = by_state(world)
    assert found["accepted"] == sorted([object_of(b), object_of(c)])
    assert object_of(a) not in found["accepted"]
    assert (found["listed"], found["superseded"]) == ([f"{IN}/set.dvc"], [f"{IN}/set.dvc"])
    assert stored(world).pending_rows == 2


@pytest.mark.parametrize("first", [0, 1])
def test_each_of_the_two_orders_by_itself(world: World, lands: Landings, first: int) -> None:
    events, _, b, c = versions(world, lands)
    lands.send(events[first])
    lands.send(events[1 - first])
    assert by_state(world)["accepted"] == sorted([object_of(b), object_of(c)])


@pytest.mark.parametrize("first", [0, 1])
def test_a_later_version_that_names_an_empty_folder_takes_back_all(world: World, lands: Landings, first: int) -> None:
    empty = pushed(world, b"[]", ".dir")
    events = [lands.put(f"{IN}/set.dvc", tracked(digest)) for digest in (pushed(world, rows(1)), empty)]
    lands.send(events[first])
    lands.send(events[1 - first])
    assert stored(world).pending_rows == 0


def test_what_is_named_again_counts_again(world: World, lands: Landings) -> None:
    a, b = pushed(world, rows(1)), pushed(world, rows(2))
    for named in ((a,), (b,), (a,)):
        lands.land(f"{IN}/set.dvc", tracked(*named))
    assert by_state(world)["accepted"] == [object_of(a)]


def test_a_deleted_one_takes_its_objects_with_it(world: World, lands: Landings) -> None:
    lands.land(f"{IN}/set.dvc", tracked(pushed(world, rows(1)), pushed(world, rows(2))))
    event = lands.delete(f"{IN}/set.dvc")
    for _ in range(3):
        assert lands.send(event) == []
    assert stored(world).pending_rows == 0
    assert {"accepted", "listed"}.isdisjoint(by_state(world))


def test_a_late_deletion_takes_nothing_of_what_came_after_it(world: World, lands: Landings) -> None:
    digest = pushed(world, rows(1))
    lands.land(f"{IN}/set.dvc", tracked(digest))
    deletion = lands.delete(f"{IN}/set.dvc")
    lands.land(f"{IN}/set.dvc", tracked(digest))
    lands.send(deletion)
    assert by_state(world)["accepted"] == [object_of(digest)]


def test_one_version_deleted_for_good_takes_its_objects_with_it(world: World, lands: Landings) -> None:
    lands.land(f"{IN}/set.dvc", tracked(pushed(world, rows(1))))
    lands.send(lands.delete_version(f"{IN}/set.dvc", one_of(world, "listed").version_id))
    assert stored(world).pending_rows == 0


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"outs: &a [*a]", "anchor"),
        (b"{not yaml", "YAML"),
        (tracked("a" * 32), "dvc push"),
        (tracked("a" * 32 + ".dir"), "dvc push"),
        (b"outs:\n- md5: " + b"a" * 32 + b"\n  path: ../../globex/secret\n", "leads out"),
        (b"#" * (MAX_FILE_BYTES + 1), "at most"),
    ],
)
def test_a_bad_one_is_quarantined_with_a_report_and_holds_up_no_other(
    world: World, lands: Landings, body: bytes, words: str
) -> None:
    good = tracked(pushed(world, rows(1)))
    assert lands.send(lands.put(f"{IN}/bad.dvc", body), lands.put(f"{IN}/good.dvc", good)) == []
    bad = one_of(world, "quarantined")
    assert bad.uri == f"{IN}/bad.dvc"
    assert words in bad.reason
    assert bad.report_uri is not None
    assert words in world.objects.read(bad.report_uri).decode()
    assert stored(world).pending_rows == 1


def test_an_object_that_is_not_what_it_was_is_quarantined_by_itself(world: World, lands: Landings) -> None:
    good, bad = pushed(world, rows(1)), pushed(world, rows(2))
    world.objects.write(object_of(bad), rows(3))
    lands.land(f"{IN}/set.dvc", tracked(good, bad))
    assert one_of(world, "quarantined").uri == object_of(bad)
    assert "MD5" in one_of(world, "quarantined").reason
    assert one_of(world, "accepted").uri == object_of(good)


def test_one_of_too_many_files_is_refused_whole(world: World, lands: Landings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listings, "MOST_FILES", 2)
    lands.land(f"{IN}/set.dvc", tracked(*(pushed(world, rows(number)) for number in range(3))))
    assert by_state(world) == {"quarantined": [f"{IN}/set.dvc"]}


def test_a_rule_without_a_remote_takes_it_for_a_file_like_any_other(lands: Landings) -> None:
    world = make_world()
    install(world.here)
    made_rule(world)
    Landings(world).land(f"{IN}/set.dvc", tracked("a" * 32))
    assert by_state(world) == {"quarantined": [f"{IN}/set.dvc"]}


@pytest.mark.parametrize("calls", range(1, 12))
def test_one_that_was_cut_off_anywhere_is_gone_on_with(
    world: World, lands: Landings, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    """Killed at each of its calls of S3 in turn, and found by its event or by the search for lost checks."""
    a, b = pushed(world, rows(1, 2)), pushed(world, rows(3))
    event, left = lands.put(f"{IN}/set.dvc", tracked(a, b)), [calls]

    def cut(name: str) -> None:
        whole = getattr(world.objects, name)

        def call(*arguments: object, **named: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                raise Unavailable("S3 does not answer.", code="aws_unavailable")
            return whole(*arguments, **named)

        monkeypatch.setattr(world.objects, name, call)

    for name in ("head", "stream", "write", "write_stream"):
        cut(name)
    lands.send(event)
    monkeypatch.undo()
    world.clock.now += 2000
    check_again(world.here, stored(world))
    lands.send(event)
    assert stored(world).pending_rows == 3
    assert by_state(world) == {"accepted": sorted([object_of(a), object_of(b)]), "listed": [f"{IN}/set.dvc"]}


def test_one_whose_event_was_lost_is_found_once(world: World, lands: Landings) -> None:
    lands.put(f"{IN}/set.dvc", tracked(pushed(world, rows(1, 2))))
    world.clock.now += 10_000
    for _ in range(3):
        sweep(world.here, stored(world))
    assert (stored(world).pending_rows, len(arrivals(world))) == (2, 2)
    lands.delete(f"{IN}/set.dvc")
    world.clock.now += 10_000
    for _ in range(3):
        sweep(world.here, stored(world))
    assert stored(world).pending_rows == 0


def test_an_object_that_is_gone_from_the_remote_counts_no_more(world: World, lands: Landings) -> None:
    a, b = pushed(world, rows(1)), pushed(world, rows(2))
    lands.land(f"{IN}/set.dvc", tracked(a, b))
    gone = next(one for one in arrivals(world) if one.uri == object_of(a))
    world.objects.delete_version(gone.uri, gone.version_id)
    world.clock.now += 10_000
    sweep(world.here, stored(world))
    assert stored(world).pending_rows == 1
