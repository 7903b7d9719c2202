"""A model from the hub into the bucket: whole, verified and licensed, over every kind of bad day."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError

from spotune.contracts.base_model import BaseModelManifest
from spotune.contracts.errors import (
    Conflict,
    NotAllowed,
    NotAuthenticated,
    RequestRefused,
    SpotuneError,
    Unavailable,
)
from spotune.mirror.adding import Offer, add, look
from spotune.mirror.bucket import ModelsBucket
from spotune.mirror.fetching import alone
from spotune.mirror.hub import Hub
from tests.mirror.hub import TOKEN, FakeHub
from tests.mirror.models import NAME, OPEN, safetensors, sharded, single

ME = "arn:aws:iam::123456789012:user/ada"
SHARDS = tuple(sorted(name for name in sharded() if name.startswith("model-")))
Add = Callable[..., BaseModelManifest]


@pytest.fixture
def commit(far: FakeHub) -> str:
    return far.add(NAME, sharded(), card=OPEN)


@pytest.fixture
def bring(hub: Hub, bucket: ModelsBucket, disk: Path) -> Add:
    """`spotune models add`."""

    def it(name: str = NAME, revision: str = "main", *, accepted: bool = False, at: Hub = hub) -> BaseModelManifest:
        offer = look(at, name, revision, disk)
        return add(at, bucket, offer, by=ME, accepted=accepted, now=1000.0, advance=lambda count: None)

    return it


def objects(s3: Any) -> dict[str, bytes]:
    """What lies in the bucket."""
    listed = s3.list_objects_v2(Bucket="models").get("Contents", ())
    return {one["Key"]: s3.get_object(Bucket="models", Key=one["Key"])["Body"].read() for one in listed}


def in_force(s3: Any, name: str = NAME) -> BaseModelManifest | None:
    body = objects(s3).get(f"base/{name}/spotune.json")
    return BaseModelManifest.model_validate_json(body) if body else None


def sent(far: FakeHub, name: str) -> list[str]:
    """The ranges in which a large file was asked for."""
    return [span for _, path, _, span in far.asked if path.split("?")[0].endswith("/" + name) and "Signature" in path]


class TestWhatLiesThereInTheEnd:
    @pytest.fixture
    def manifest(self, commit: str, bring: Add) -> BaseModelManifest:
        return bring()

    def test_is_the_model_and_nothing_else_of_the_repository(
        self, manifest: BaseModelManifest, commit: str, s3: Any, far: FakeHub
    ) -> None:
        folder = f"base/{NAME}/{commit}/"
        wanted = {name: body for name, body in sharded().items() if name != "consolidated.safetensors"}
        assert {key: body for key, body in objects(s3).items() if not key.endswith("spotune.json")} == {
            folder + name: body for name, body in wanted.items()
        }

    def test_has_every_files_hash_in_its_manifest(self, manifest: BaseModelManifest, s3: Any, commit: str) -> None:
        for file in manifest.files:
            body = objects(s3)[f"base/{NAME}/{commit}/{file.name}"]
            assert (file.bytes, file.sha256) == (len(body), hashlib.sha256(body).hexdigest())

    def test_says_where_it_comes_from(self, manifest: BaseModelManifest, commit: str, far: FakeHub) -> None:
        assert (manifest.name, manifest.revision, manifest.folder) == (NAME, commit, f"{commit}/")
        assert (manifest.source, manifest.added_by, manifest.added_at) == (far.address, ME, 1000)
        assert manifest.parameters == 150_000

    def test_is_in_force_under_the_models_name(self, manifest: BaseModelManifest, s3: Any, commit: str) -> None:
        assert in_force(s3) == manifest
        assert objects(s3)[f"base/{NAME}/{commit}/spotune.json"] == objects(s3)[f"base/{NAME}/spotune.json"]

    def test_leaves_nothing_on_this_disk(self, manifest: BaseModelManifest, disk: Path) -> None:
        assert [path for path in disk.rglob("*") if path.is_file()] == []


def test_a_second_time_brings_and_sends_nothing_large(commit: str, bring: Add, s3: Any, far: FakeHub) -> None:
    first = bring()
    versions = s3.list_object_versions(Bucket="models")["Versions"]
    far.asked.clear()
    assert bring().sha256 == first.sha256
    assert [path for path in far.paths() if path.split("?")[0].endswith(SHARDS)] == []
    again = [one["Key"] for one in s3.list_object_versions(Bucket="models")["Versions"] if one not in versions]
    assert {key.rpartition("/")[2] for key in again} <= {"spotune.json"}


def test_a_branch_that_moves_meanwhile_changes_nothing(
    commit: str, hub: Hub, bucket: ModelsBucket, disk: Path, far: FakeHub, s3: Any
) -> None:
    offer = look(hub, NAME, "main", disk)
    moved = far.add(NAME, sharded(fill=1))
    manifest = add(hub, bucket, offer, by=ME, accepted=False, now=0, advance=lambda count: None)
    assert manifest.revision == commit != moved
    assert objects(s3)[f"base/{NAME}/{commit}/{SHARDS[0]}"] == sharded()[SHARDS[0]]


def test_another_revision_is_put_beside_the_first_and_back(commit: str, bring: Add, far: FakeHub, s3: Any) -> None:
    first, moved = bring(), far.add(NAME, sharded(fill=1))
    second = bring()
    assert (in_force(s3), second.revision) == (second, moved)
    assert first.sha256 != second.sha256
    for manifest in (first, second):
        assert f"base/{NAME}/{manifest.revision}/{SHARDS[0]}" in objects(s3)
    assert bring(revision=commit).sha256 == first.sha256
    assert in_force(s3, NAME).revision == commit  # type: ignore[union-attr]


def test_a_small_repository_without_large_files_is_added_too(far: FakeHub, bring: Add, monkeypatch: Any) -> None:
    from tests.mirror import hub

    monkeypatch.setattr(hub, "is_large", lambda name: False)
    far.add(NAME, single(), card=OPEN)
    assert bring().parameters == 10_007


class Fails:
    """A client whose call of this number breaks, before it is made or after its answer is lost."""

    def __init__(self, client: Any, number: int, *, lost: bool) -> None:
        self._client, self.left, self._lost = client, number, lost

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._client, name)
        if name not in ("head_object", "put_object", "upload_fileobj", "get_object"):
            return real

        def call(*arguments: Any, **more: Any) -> Any:
            self.left -= 1
            if self.left == 0 and not self._lost:
                raise EndpointConnectionError(endpoint_url="s3")
            answer = real(*arguments, **more)
            if self.left == 0:
                raise EndpointConnectionError(endpoint_url="s3")
            return answer

        return call


@pytest.mark.parametrize("lost", [False, True], ids=["before", "after"])
def test_cut_off_at_any_call_there_is_no_half_model_and_the_same_command_goes_on(
    lost: bool, commit: str, hub: Hub, disk: Path, s3: Any, far: FakeHub
) -> None:
    number = 0
    while True:
        number += 1
        failing = Fails(s3, number, lost=lost)
        offer = look(hub, NAME, "main", disk)
        try:
            add(hub, ModelsBucket(failing, "models"), offer, by=ME, accepted=False, now=0, advance=lambda count: None)
        except Unavailable:
            now = in_force(s3)
            if now is not None:
                assert {f"base/{NAME}/{now.folder}{file.name}" for file in now.files} <= objects(s3).keys()
                assert f"base/{NAME}/{now.folder}spotune.json" in objects(s3)
        if failing.left > 0:
            break
        if number % 2:  # every other time it goes on from the last one, whatever that has left
            for key in objects(s3):
                s3.delete_object(Bucket="models", Key=key)
            shutil.rmtree(disk, ignore_errors=True)
    assert number > 2 * len(SHARDS)
    done = in_force(s3)
    assert done is not None
    assert done.parameters == 150_000
    for file in done.files:
        assert objects(s3)[f"base/{NAME}/{done.folder}{file.name}"] == sharded()[file.name]


def test_a_process_that_was_killed_goes_on_in_the_middle_of_a_file(
    commit: str, bring: Add, far: FakeHub, disk: Path
) -> None:
    far.days.cut[SHARDS[1]] = [20_000, 0, 0, 0, 0, 0, 0]
    with pytest.raises(Unavailable, match="goes on where it stands"):
        bring()
    far.days.cut.clear()
    far.asked.clear()
    bring()
    assert sent(far, SHARDS[0]) == [], "it is in the bucket"
    assert sent(far, SHARDS[1]) == ["bytes=20000-"]
    assert sent(far, SHARDS[2]) == [""]


class TestWhatCameIsNotWhatTheHubLists:
    @pytest.mark.parametrize("name", [SHARDS[0], "config.json", "tokenizer.json", "LICENSE"])
    def test_one_bit_is_enough(self, commit: str, bring: Add, far: FakeHub, s3: Any, disk: Path, name: str) -> None:
        body = sharded()[name]
        far.days.other_bytes[name] = body[:-1] + bytes([body[-1] ^ 1])
        with pytest.raises(SpotuneError, match=name) as differs:
            bring()
        assert differs.value.code == "hub_file_differs"
        assert in_force(s3) is None
        assert f"base/{NAME}/{commit}/{name}" not in objects(s3)
        far.days.other_bytes.clear()
        assert bring().parameters == 150_000, "nothing of it was kept"

    def test_more_than_is_listed_is_not_read_to_its_end(
        self, commit: str, hub: Hub, bucket: ModelsBucket, disk: Path, far: FakeHub
    ) -> None:
        far.days.other_bytes[SHARDS[0]] = sharded()[SHARDS[0]] + bytes(50_000_000)
        offer, seen = look(hub, NAME, "main", disk), []  # type: ignore[var-annotated]
        with pytest.raises(SpotuneError) as differs:
            add(hub, bucket, offer, by=ME, accepted=False, now=0, advance=seen.append)
        assert differs.value.code == "hub_file_differs"
        assert sum(seen) < 5_000_000

    def test_a_file_that_was_changed_on_this_disk_is_brought_again(
        self, commit: str, hub: Hub, bring: Add, disk: Path, s3: Any
    ) -> None:
        offer = look(hub, NAME, "main", disk)
        (offer.disk / "config.json").write_bytes(b"{}")
        (offer.disk / f".{SHARDS[0]}.part").write_bytes(b"x" * 10)
        with pytest.raises(SpotuneError):
            bring()  # the part began otherwise
        manifest = bring()
        assert objects(s3)[f"base/{NAME}/{manifest.folder}config.json"] == sharded()["config.json"]
        assert objects(s3)[f"base/{NAME}/{manifest.folder}{SHARDS[0]}"] == sharded()[SHARDS[0]]

    def test_an_object_without_our_hash_is_sent_again(self, commit: str, bring: Add, s3: Any) -> None:
        key = f"base/{NAME}/{commit}/{SHARDS[0]}"
        s3.put_object(Bucket="models", Key=key, Body=bytes(len(sharded()[SHARDS[0]])))
        bring()
        assert objects(s3)[key] == sharded()[SHARDS[0]]


class TestTheLicence:
    @pytest.fixture
    def bound(self, far: FakeHub) -> str:
        files = sharded() | {"LICENSE": b"You may, if you say so.", "USE_POLICY.md": b"Do no harm."}
        return far.add("meta/bound", files, card={"license": "bound1.0", "license_link": "https://example.com/l"})

    def test_is_shown_and_refused_before_anything_large_moves(
        self, bound: str, bring: Add, far: FakeHub, s3: Any
    ) -> None:
        with pytest.raises(RequestRefused, match="bound1") as refused:
            bring("meta/bound")
        assert refused.value.code == "licence_not_accepted"
        assert refused.value.details["text"] == "You may, if you say so.\n\nDo no harm."
        assert objects(s3) == {}
        assert not any(sent(far, name) for name in SHARDS)

    def test_accepted_says_who_when_and_which_text(self, bound: str, bring: Add, s3: Any) -> None:
        manifest = bring("meta/bound", accepted=True)
        assert manifest.accepted is not None
        assert (manifest.accepted.by, manifest.accepted.at) == (ME, 1000)
        text = hashlib.sha256(b"You may, if you say so.\n\nDo no harm.").hexdigest()
        assert manifest.accepted.text_sha256 == text
        assert {"LICENSE", "USE_POLICY.md"} <= {file.name for file in manifest.files}

    def test_that_asks_nothing_is_not_said_to_have_been_accepted(self, commit: str, bring: Add) -> None:
        manifest = bring(accepted=True)
        assert manifest.accepted is None
        assert manifest.licence is not None
        assert manifest.licence.id == "apache-2.0"

    def test_of_another_revision_is_asked_for_anew(self, bound: str, bring: Add, far: FakeHub) -> None:
        bring("meta/bound", accepted=True)
        far.add("meta/bound", sharded(fill=1) | {"LICENSE": b"You may not."})
        with pytest.raises(RequestRefused) as refused:
            bring("meta/bound")
        assert refused.value.details["text"] == "You may not."

    def test_of_a_gated_model_is_no_way_round_the_gate(self, far: FakeHub, bring: Add, s3: Any) -> None:
        far.add("meta/gated", sharded(), gated="manual", card={"license": "apache-2.0"})
        with pytest.raises(NotAllowed) as shut:
            bring("meta/gated", accepted=True)
        assert shut.value.code == "hub_gated"
        with Hub(far.address, TOKEN) as known:
            with pytest.raises(RequestRefused) as refused:
                bring("meta/gated", at=known)
            assert refused.value.code == "licence_not_accepted"
            assert bring("meta/gated", accepted=True, at=known).licence.gated  # type: ignore[union-attr]
        assert in_force(s3, "meta/gated") is not None


class TestModelsThatAreRefused:
    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"model.safetensors": None, "model.bin": b"\x80"}, "pickled_weights"),
            ({"config.json": b'{"model_type": "qwen"}'}, "model_needs_code"),
            ({"tokenizer.json": None}, "model_files_missing"),
        ],
    )
    def test_before_anything_large_moves(
        self, far: FakeHub, bring: Add, s3: Any, change: dict[str, bytes | None], code: str
    ) -> None:
        files = {name: body for name, body in (single() | change).items() if body is not None}  # type: ignore[operator]
        far.add(NAME, files, card=OPEN)
        with pytest.raises(RequestRefused) as refused:
            bring()
        assert refused.value.code == code
        assert objects(s3) == {}
        assert not sent(far, "model.safetensors")

    def test_weights_that_are_no_numbers_never_reach_the_bucket(self, far: FakeHub, bring: Add, s3: Any) -> None:
        far.add(NAME, single() | {"model.safetensors": b"\x80\x04cos\nsystem\n"}, card=OPEN)
        with pytest.raises(RequestRefused) as refused:
            bring()
        assert refused.value.code == "weights_damaged"
        assert not [key for key in objects(s3) if key.endswith(".safetensors")]

    def test_an_index_that_promises_more_than_the_files_hold(self, far: FakeHub, bring: Add, s3: Any) -> None:
        index = json.loads(sharded()["model.safetensors.index.json"])
        index["weight_map"]["layer.9"] = SHARDS[0]
        far.add(NAME, sharded() | {"model.safetensors.index.json": json.dumps(index).encode()}, card=OPEN)
        with pytest.raises(RequestRefused, match=r"layer\.9") as refused:
            bring()
        assert refused.value.code == "model_incomplete"
        assert in_force(s3) is None

    def test_weights_of_nothing(self, far: FakeHub, bring: Add) -> None:
        far.add(NAME, single() | {"model.safetensors": safetensors({})}, card=OPEN)
        with pytest.raises(RequestRefused) as refused:
            bring()
        assert refused.value.code == "model_incomplete"


class TestThisMachineAndAws:
    def test_a_disk_without_room_is_told_before_a_byte_comes(
        self, commit: str, bring: Add, far: FakeHub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usage = shutil.disk_usage("/")._replace(free=1000)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        with pytest.raises(RequestRefused, match="1,000 bytes left") as refused:
            bring()
        assert refused.value.code == "disk_full"
        assert not [path for path in far.paths() if "/resolve/" in path]

    def test_a_disk_that_fills_up_meanwhile_is_told(
        self, commit: str, bring: Add, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(RequestRefused) as refused:
            bring()
        assert refused.value.code == "disk_full"

    def test_the_disk_holds_one_file_of_weights_at_a_time(
        self, commit: str, hub: Hub, disk: Path, s3: Any, bucket: ModelsBucket
    ) -> None:
        held: list[int] = []

        class Looks:
            def __getattr__(self, name: str) -> Any:
                return getattr(s3, name)

            def upload_fileobj(self, **more: Any) -> None:
                held.append(len(list(disk.rglob("*.safetensors"))))
                s3.upload_fileobj(**more)

        offer = look(hub, NAME, "main", disk)
        add(hub, ModelsBucket(Looks(), "models"), offer, by=ME, accepted=False, now=0, advance=lambda count: None)
        assert max(held) == 1

    def test_what_an_earlier_commit_left_here_goes_with_the_last_one_unless_somebody_works_there(
        self, commit: str, bring: Add, far: FakeHub, disk: Path
    ) -> None:
        far.days.cut[SHARDS[0]] = [20_000, 0, 0, 0, 0, 0, 0]
        with pytest.raises(Unavailable):
            bring()
        far.days.cut.clear()
        moved = far.add(NAME, sharded(fill=1))
        with alone(disk / NAME / commit):
            bring()
            assert [path.name for path in (disk / NAME).iterdir()] == [commit]
        bring()
        assert commit != moved
        assert list((disk / NAME).iterdir()) == []

    def test_two_at_once_do_not_write_into_each_others_files(self, commit: str, bring: Add, disk: Path) -> None:
        with alone(disk / NAME / commit), pytest.raises(Conflict) as busy:
            bring()
        assert busy.value.code == "mirror_busy"
        bring()

    @pytest.mark.parametrize(
        ("error", "kind", "code"),
        [
            (NoCredentialsError(), NotAuthenticated, "aws_credentials_missing"),
            (("ExpiredToken", 400), NotAuthenticated, "aws_credentials_expired"),
            (("AccessDenied", 403), NotAllowed, "aws_denied"),
            (("NoSuchBucket", 404), RequestRefused, "aws_refused"),
            (("SlowDown", 503), Unavailable, "aws_unavailable"),
            (EndpointConnectionError(endpoint_url="s3"), Unavailable, "aws_unavailable"),
        ],
    )
    def test_a_refusal_of_aws_says_what_it_means_and_the_same_command_goes_on(
        self, commit: str, hub: Hub, bring: Add, disk: Path, s3: Any, error: Any, kind: type[SpotuneError], code: str
    ) -> None:
        if isinstance(error, tuple):
            answer = {"Error": {"Code": error[0]}, "ResponseMetadata": {"HTTPStatusCode": error[1]}}
            error = ClientError(answer, "UploadPart")  # type: ignore[arg-type]

        class Refuses:
            def __getattr__(self, name: str) -> Any:
                return getattr(s3, name)

            def upload_fileobj(self, **more: Any) -> None:
                raise error

        offer = look(hub, NAME, "main", disk)
        with pytest.raises(kind) as refused:
            add(hub, ModelsBucket(Refuses(), "models"), offer, by=ME, accepted=False, now=0, advance=lambda count: None)
        assert refused.value.code == code
        assert in_force(s3) is None
        assert bring().parameters == 150_000


def test_progress_counts_every_byte_once(commit: str, hub: Hub, bucket: ModelsBucket, disk: Path, far: FakeHub) -> None:
    far.days.cut[SHARDS[0]] = [1000]
    offer: Offer = look(hub, NAME, "main", disk)
    for _ in range(2):
        seen: list[int] = []
        add(hub, bucket, offer, by=ME, accepted=False, now=0, advance=seen.append)
        assert sum(seen) == offer.bytes
    assert offer.left_out == ("consolidated.safetensors",)
