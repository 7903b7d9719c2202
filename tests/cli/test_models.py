"""`models` against the real handlers, and files out of an S3."""

from __future__ import annotations

from pathlib import Path

import pytest

from spotune.cli import download
from tests.cli.conftest import Run, Service
from tests.service.registered import GROUP, WEIGHTS, group_of, registered, statuses


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.0)


@pytest.fixture
def group(service: Service) -> Service:
    """Version 3 is champion, after 2, after 1."""
    for number in (1, 2, 3):
        registered(service.world, number)
    return service


def uri_of(number: int, name: str = WEIGHTS) -> str:
    return f"s3://artifacts/acme/jobs/ftjob-{number}/output/ftjob-{number}-1/output/model/{name}"


def test_groups_and_versions_are_shown(group: Service, run: Run) -> None:
    assert run("models", "list", "--json").json["data"][0]["champion"]["version"] == 3
    assert "ft:tiny::3" in run("models", "list").out
    assert [one["version"] for one in run("models", "versions", GROUP, "--json").json["data"]] == [3, 2, 1]
    listed = run("models", "versions", GROUP).out
    assert "champion" in listed
    assert "former" in listed
    shown = run("models", "show", GROUP).out
    assert "to 3, by gate" in shown
    version = run("models", "show", f"{GROUP}@2").out
    assert "ftjob-2" in version
    assert "promote: so it was measured." in version
    assert run("models", "show", f"{GROUP}@champion", "--json").json["version"] == 3
    assert run("models", "show", "none").code == 3


def test_promote_and_rollback_say_who_is_champion_now(group: Service, run: Run) -> None:
    assert "Version 1 is champion of refunds" in run("models", "promote", GROUP, 1, "--why", "best").out
    assert "Version 3 is champion" in run("models", "rollback", GROUP).out
    assert group_of(group.world).history[-2].why == "best"


def test_a_rollback_whose_answer_was_lost_goes_back_once(group: Service, run: Run) -> None:
    lost = iter([True])
    group.lose = lambda method, path: path.endswith("/rollback") and next(lost, False)
    assert "Version 2 is champion" in run("models", "rollback", GROUP).out
    assert [path for _, path in group.calls].count(f"/v1/model_groups/{GROUP}/rollback") == 2
    assert group_of(group.world).champion == 2


def test_what_waits_is_approved_or_rejected(group: Service, run: Run) -> None:
    registered(group.world, 4, "hold")
    registered(group.world, 5, "hold")
    assert "Version 4 of refunds is champion: read it" in run("models", "approve", GROUP, 4, "--why", "read it").out
    assert "is rejected" in run("models", "reject", GROUP, 5).out
    assert "is deprecated" in run("models", "deprecate", GROUP, 3).out
    refused = run("models", "approve", GROUP, 5)
    assert (refused.code, "cannot be approved" in refused.err) == (2, True)


def test_versions_are_compared_in_a_table(group: Service, run: Run) -> None:
    out = run("models", "compare", GROUP, 1, 3).out
    assert "loss" in out
    assert "exact match" in out
    assert run("models", "compare", GROUP, 1, 3, "--json").json["b"] == "ft:tiny::3"


def test_a_champion_is_not_deleted_another_version_is(group: Service, run: Run) -> None:
    assert run("models", "delete", f"{GROUP}@3").code == 2
    assert run("models", "delete", GROUP).code == 2
    assert run("models", "delete", f"{GROUP}@1", "--json").json == {
        "id": "ft:tiny::1",
        "object": "model",
        "deleted": True,
    }
    assert statuses(group.world)[0] == "deleted"


def test_the_champion_is_pulled_byte_for_byte_and_after_a_rollback_the_former_one(
    group: Service, run: Run, tmp_path: Path
) -> None:
    pulled = run("models", "pull", GROUP, "--out", tmp_path / "now", "--json").json
    assert (pulled["version"], pulled["files"]) == (3, 3)
    assert (tmp_path / "now" / WEIGHTS).read_bytes() == b"weights of ftjob-3"
    run("models", "rollback", GROUP)
    assert "verified" in run("models", "pull", f"{GROUP}@champion", "--out", tmp_path / "then").out
    assert (tmp_path / "then" / WEIGHTS).read_bytes() == b"weights of ftjob-2"
    run("models", "pull", f"{GROUP}@1", "--out", tmp_path / "first")
    assert (tmp_path / "first" / WEIGHTS).read_bytes() == b"weights of ftjob-1"
    assert sorted(path.name for path in tmp_path.glob(".*.part")) == []


@pytest.mark.parametrize("hashed", [True, False])
@pytest.mark.parametrize("damage", ["replaced", "shorter", "longer", "gone"])
def test_what_is_not_what_was_registered_is_not_pulled(
    group: Service, run: Run, tmp_path: Path, damage: str, hashed: bool
) -> None:
    if not hashed:
        without_hashes(group)
    bodies = {"replaced": b"weights of ftjob-X", "shorter": b"weights", "longer": b"weights of ftjob-3 and more"}
    if damage == "gone":
        group.world.objects.delete(uri_of(3))
    else:
        group.world.objects.write(uri_of(3), bodies[damage])
    ran = run("models", "pull", GROUP, "--out", tmp_path / "out", "--json")
    if damage == "replaced" and not hashed:
        assert ran.code == 0, "nothing but its size is known"
        return
    assert ran.error["code"] == "model_file_differs"
    assert list(tmp_path.glob("*out*")) == []


def without_hashes(group: Service) -> None:
    version = group.world.store.get_version("acme", GROUP, 3)
    assert version is not None
    plain = tuple(file.with_(sha256=None) for file in version.files)
    group.world.store.replace_version(version, version.with_(files=plain))


def test_a_connection_that_breaks_is_gone_on_with(group: Service, run: Run, tmp_path: Path) -> None:
    cuts = iter([4, 5, None])
    group.carry = lambda uri: next(cuts, None) if uri.endswith(WEIGHTS) else None
    assert run("models", "pull", GROUP, "--out", tmp_path / "out").code == 0
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == b"weights of ftjob-3"


def test_a_pull_that_was_cut_off_goes_on_where_it_stood(group: Service, run: Run, tmp_path: Path) -> None:
    group.carry = lambda uri: 0 if uri.endswith(WEIGHTS) else None
    assert run("models", "pull", GROUP, "--out", tmp_path / "out").code == 5
    assert not (tmp_path / "out").exists()
    group.carry = lambda uri: None
    before = len(group.calls)
    assert run("models", "pull", GROUP, "--out", tmp_path / "out").code == 0
    read = [path for _, path in group.calls[before:] if path.startswith("/objects")]
    assert len(read) == 2, "what is there whole is not read again"
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == b"weights of ftjob-3"


def test_a_folder_with_something_in_it_is_left_alone(group: Service, run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    assert run("models", "pull", GROUP, "--out", tmp_path, "--json").error["code"] == "folder_not_empty"
    (tmp_path / "empty").mkdir()
    assert run("models", "pull", GROUP, "--out", tmp_path / "empty").code == 0


@pytest.mark.parametrize("name", ["../outside", "a/../../outside"])
def test_a_file_that_would_lie_outside_of_the_folder_is_not_written(
    group: Service, run: Run, tmp_path: Path, name: str
) -> None:
    version = group.world.store.get_version("acme", GROUP, 3)
    assert version is not None
    bad = (version.files[0].with_(name=name),)
    group.world.store.replace_version(version, version.with_(files=bad))
    assert run("models", "pull", GROUP, "--out", tmp_path / "out").code == 1
    assert list(tmp_path.rglob("outside")) == []


def test_a_deleted_version_has_nothing_to_pull(group: Service, run: Run, tmp_path: Path) -> None:
    run("models", "delete", f"{GROUP}@1")
    assert run("models", "pull", f"{GROUP}@1", "--out", tmp_path / "x", "--json").error["code"] == "model_files_gone"


def test_a_version_that_is_none_is_refused(group: Service, run: Run) -> None:
    assert run("models", "show", f"{GROUP}@latest", "--json").error["param"] == "version"
