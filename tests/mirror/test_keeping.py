"""Base models in the bucket: seen to be what was added, listed, and taken away whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from spotune.contracts.base_model import BaseModelManifest
from spotune.contracts.errors import NotFound, RequestRefused, SpotuneError
from spotune.mirror.adding import add, look
from spotune.mirror.bucket import ModelsBucket
from spotune.mirror.hub import Hub
from spotune.mirror.keeping import faults, manifest_of, remove
from tests.mirror.hub import FakeHub
from tests.mirror.models import NAME, OPEN, sharded, single

SHARD = "model-00002-of-00003.safetensors"


def bring(hub: Hub, bucket: ModelsBucket, disk: Path, name: str = NAME) -> BaseModelManifest:
    offer = look(hub, name, "main", disk)
    return add(hub, bucket, offer, by="ada", accepted=False, now=0, advance=lambda count: None)


@pytest.fixture
def manifest(far: FakeHub, hub: Hub, bucket: ModelsBucket, disk: Path) -> BaseModelManifest:
    far.add(NAME, sharded(), card=OPEN)
    return bring(hub, bucket, disk)


def found(bucket: ModelsBucket, manifest: BaseModelManifest) -> list[str]:
    return list(faults(bucket, manifest, lambda count: None))


def keys(s3: Any) -> list[str]:
    return [one["Key"] for one in s3.list_objects_v2(Bucket="models").get("Contents", ())]


def lying(s3: Any, name: str) -> list[str]:
    return [key for key in keys(s3) if key.startswith(f"base/{name}/")]


class TestVerifying:
    def test_what_was_added_has_no_fault_and_every_byte_is_read(
        self, bucket: ModelsBucket, manifest: BaseModelManifest
    ) -> None:
        seen: list[int] = []
        assert list(faults(bucket, manifest, seen.append)) == []
        assert sum(seen) == manifest.bytes

    def test_a_file_of_other_bytes_is_named_whatever_its_metadata_says(
        self, bucket: ModelsBucket, manifest: BaseModelManifest, s3: Any
    ) -> None:
        key = f"base/{NAME}/{manifest.folder}{SHARD}"
        before = s3.get_object(Bucket="models", Key=key)
        body = before["Body"].read()[:-1] + b"\1"
        s3.put_object(Bucket="models", Key=key, Body=body, Metadata=before["Metadata"])
        assert found(bucket, manifest) == [f"{manifest.folder}{SHARD} has other bytes"]

    def test_a_file_of_another_size_a_missing_one_and_one_too_many_are_named(
        self, bucket: ModelsBucket, manifest: BaseModelManifest, s3: Any
    ) -> None:
        folder = f"base/{NAME}/{manifest.folder}"
        s3.put_object(Bucket="models", Key=folder + SHARD, Body=b"")
        s3.put_object(Bucket="models", Key=folder + "model.safetensors", Body=b"preferred")
        s3.delete_object(Bucket="models", Key=folder + "config.json")
        assert sorted(fault.removeprefix(manifest.folder) for fault in found(bucket, manifest)) == [
            "config.json is missing",
            f"{SHARD} has 0 bytes instead of {len(sharded()[SHARD])}",
            "model.safetensors was added by somebody else",
        ]

    @pytest.mark.parametrize("gone", [True, False])
    def test_a_manifest_that_differs_from_the_one_in_force_is_named(
        self, bucket: ModelsBucket, manifest: BaseModelManifest, s3: Any, gone: bool
    ) -> None:
        key = f"base/{NAME}/{manifest.folder}spotune.json"
        other = manifest.with_(files=manifest.files[1:])
        if gone:
            s3.delete_object(Bucket="models", Key=key)
        else:
            s3.put_object(Bucket="models", Key=key, Body=other.model_dump_json().encode())
        words = "missing" if gone else "of other files"
        assert found(bucket, manifest) == [f"{manifest.folder}spotune.json is {words}"]

    def test_a_model_that_was_never_hashed_is_not_called_good(self, bucket: ModelsBucket) -> None:
        with pytest.raises(RequestRefused) as refused:
            found(bucket, BaseModelManifest(name="old", parameters=1))
        assert refused.value.code == "base_model_not_hashed"

    def test_a_manifest_that_is_none_is_told(self, bucket: ModelsBucket, s3: Any) -> None:
        s3.put_object(Bucket="models", Key=f"base/{NAME}/spotune.json", Body=b"{}")
        with pytest.raises(SpotuneError) as odd:
            manifest_of(bucket, NAME)
        assert odd.value.code == "base_model_unreadable"


class TestListing:
    def test_names_each_model_once_with_its_revision_in_force(
        self, bucket: ModelsBucket, manifest: BaseModelManifest, far: FakeHub, hub: Hub, disk: Path
    ) -> None:
        far.add("org/another", single(), card=OPEN)
        far.add(NAME, sharded(fill=1))
        another, second = bring(hub, bucket, disk, "org/another"), bring(hub, bucket, disk)
        assert list(bucket.manifests()) == [another, second]
        assert manifest_of(bucket, NAME) == second

    def test_of_what_is_not_there_says_so(self, bucket: ModelsBucket) -> None:
        assert list(bucket.manifests()) == []
        with pytest.raises(NotFound) as missing:
            manifest_of(bucket, NAME)
        assert missing.value.code == "model_not_found"


class TestRemoving:
    def test_takes_all_revisions_and_no_other_model(
        self, bucket: ModelsBucket, manifest: BaseModelManifest, far: FakeHub, hub: Hub, disk: Path, s3: Any
    ) -> None:
        far.add(NAME + "-larger", single(), card=OPEN)
        far.add(NAME, sharded(fill=1))
        kept = bring(hub, bucket, disk, NAME + "-larger")
        second = bring(hub, bucket, disk)
        s3.put_object(Bucket="models", Key="market/us-east-1/latest.json", Body=b"{}")
        assert remove(bucket, NAME) == len(manifest.files) + len(second.files) + 3
        assert {key for key in keys(s3) if not key.startswith(f"base/{kept.name}/")} == {"market/us-east-1/latest.json"}
        assert found(bucket, kept) == []

    def test_an_owner_of_the_same_name_keeps_its_models(
        self, bucket: ModelsBucket, manifest: BaseModelManifest, s3: Any
    ) -> None:
        s3.put_object(Bucket="models", Key="base/org/spotune.json", Body=b'{"name": "org", "parameters": 1}')
        assert remove(bucket, "org") == 1
        assert found(bucket, manifest) == []

    @pytest.mark.parametrize("flat", [False, True], ids=["by revisions", "beside its manifest"])
    def test_cut_off_it_leaves_no_half_model_and_the_same_command_goes_on(
        self, bucket: ModelsBucket, manifest: BaseModelManifest, s3: Any, flat: bool
    ) -> None:
        class BreaksAfterOne:
            """Each time it is made, one object more can be deleted."""

            left = 1

            def __getattr__(self, name: str) -> Any:
                return getattr(s3, name)

            def delete_object(self, **more: Any) -> None:
                self.left -= 1
                if self.left < 0:
                    raise ConnectionError
                s3.delete_object(**more)

        name = "old/model" if flat else NAME
        if flat:
            for file in ("a.json", "model.safetensors", "tokenizer.json"):
                s3.put_object(Bucket="models", Key=f"base/{name}/{file}", Body=b"x")
            bucket.mark(BaseModelManifest(name=name, parameters=1))
        before = len(lying(s3, name))
        for gone in range(1, before):
            with pytest.raises(ConnectionError):
                remove(ModelsBucket(BreaksAfterOne(), "models"), name)
            assert len(lying(s3, name)) == before - gone
            assert name not in [one.name for one in bucket.manifests()], "what makes it a model goes first"
        assert remove(bucket, name) == 1
        assert lying(s3, name) == []

    def test_what_is_not_there_is_not_removed(self, bucket: ModelsBucket) -> None:
        with pytest.raises(NotFound):
            remove(bucket, NAME)
