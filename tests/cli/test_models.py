"""`models` against the real handlers, and files out of an S3."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from spotune.cli import model_pull
from tests.cli.conftest import Run, Service
from tests.service.registered import GROUP, WEIGHTS, group_of, registered, statuses


@pytest.fixture
def group(service: Service) -> Service:
    """Version 3 is champion, after 2, after 1."""
    for number in (1, 2, 3):
        registered(service.world, number)
    return service


@pytest.fixture
def s3(group: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An S3 with what lies in the world's."""
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
        client.create_bucket(Bucket="artifacts")
        for one in group.world.objects.list("s3://artifacts/"):
            body = group.world.objects.read(one.uri)
            client.put_object(Bucket="artifacts", Key=one.uri.removeprefix("s3://artifacts/"), Body=body)
        monkeypatch.setattr(model_pull, "s3_of", lambda stack: client)
        yield client


def key_of(number: int, name: str = WEIGHTS) -> str:
    return f"acme/jobs/ftjob-{number}/output/ftjob-{number}-1/output/model/{name}"


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
    s3: Any, run: Run, tmp_path: Path
) -> None:
    pulled = run("models", "pull", GROUP, "--out", tmp_path / "now", "--json").json
    assert (pulled["version"], pulled["files"]) == (3, 3)
    assert (tmp_path / "now" / WEIGHTS).read_bytes() == b"weights of ftjob-3"
    run("models", "rollback", GROUP)
    assert "verified" in run("models", "pull", f"{GROUP}@champion", "--out", tmp_path / "then").out
    assert (tmp_path / "then" / WEIGHTS).read_bytes() == b"weights of ftjob-2"
    run("models", "pull", f"{GROUP}@1", "--out", tmp_path / "first")
    assert (tmp_path / "first" / WEIGHTS).read_bytes() == b"weights of ftjob-1"


@pytest.mark.parametrize("damage", ["replaced", "gone"])
def test_what_is_not_what_was_registered_is_not_pulled(s3: Any, run: Run, tmp_path: Path, damage: str) -> None:
    if damage == "replaced":
        s3.put_object(Bucket="artifacts", Key=key_of(3), Body=b"weights of ftjob-X")
    else:
        s3.delete_object(Bucket="artifacts", Key=key_of(3))
    refused = run("models", "pull", GROUP, "--out", tmp_path / "out", "--json")
    assert refused.error["code"] == {"replaced": "model_file_differs", "gone": "model_files_gone"}[damage]
    assert list(tmp_path.glob("*out*")) == []


def test_a_folder_with_something_in_it_is_left_alone(s3: Any, run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    assert run("models", "pull", GROUP, "--out", tmp_path, "--json").error["code"] == "folder_not_empty"
    (tmp_path / "empty").mkdir()
    assert run("models", "pull", GROUP, "--out", tmp_path / "empty").code == 0


def test_a_file_without_a_hash_is_compared_by_size_and_etag(s3: Any, group: Service, run: Run, tmp_path: Path) -> None:
    version = group.world.store.get_version("acme", GROUP, 3)
    assert version is not None
    plain = tuple(file.with_(sha256=None) for file in version.files)
    group.world.store.replace_version(version, version.with_(files=plain))
    assert run("models", "pull", GROUP, "--out", tmp_path / "out").code == 0
    assert plain[1].etag == hashlib.md5(b"weights of ftjob-3", usedforsecurity=False).hexdigest()
    s3.put_object(Bucket="artifacts", Key=key_of(3), Body=b"weights of ftjob-X")
    assert run("models", "pull", GROUP, "--out", tmp_path / "again", "--json").error["code"] == "model_file_differs"


@pytest.mark.parametrize("name", ["../outside", "a/../../outside"])
def test_a_file_that_would_lie_outside_of_the_folder_is_not_written(
    s3: Any, group: Service, run: Run, tmp_path: Path, name: str
) -> None:
    version = group.world.store.get_version("acme", GROUP, 3)
    assert version is not None
    bad = (version.files[0].with_(name=name),)
    group.world.store.replace_version(version, version.with_(files=bad))
    assert run("models", "pull", GROUP, "--out", tmp_path / "out").code == 1
    assert list(tmp_path.rglob("outside")) == []


def test_a_deleted_version_has_nothing_to_pull(s3: Any, run: Run, tmp_path: Path) -> None:
    run("models", "delete", f"{GROUP}@1")
    assert run("models", "pull", f"{GROUP}@1", "--out", tmp_path / "x", "--json").error["code"] == "model_files_gone"


def test_a_version_that_is_none_is_refused(group: Service, run: Run) -> None:
    assert run("models", "show", f"{GROUP}@latest", "--json").error["param"] == "version"
