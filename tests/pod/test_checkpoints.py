"""Checkpoints between a pod's disk and S3: what goes up in which order, what comes back, and what a kill costs."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import subprocess
import threading
import time
from functools import partial
from pathlib import Path
from typing import IO

import pytest
from botocore.exceptions import EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st

from spotune.contracts.checkpoint import needed_folders
from spotune.contracts.training import ExitCode, Manifest, ManifestFile
from spotune.pod.checkpoints import CheckpointSync
from spotune.pod.objects import Objects, StoredObject, patiently
from tests import factories
from tests.pod.conftest import BUCKET, Bucket, Pods
from tests.polling import wait_for

pytestmark = pytest.mark.embedded

KEEP = factories.config().checkpoint.keep
NAMES = "print(json.dumps(sorted(path.name for path in root.glob('checkpoints/*'))))"


class RecordingS3:
    """What CheckpointSync uploads, in order; `busy` files change while they go up."""

    def __init__(self) -> None:
        self.uploaded: list[str] = []
        self.busy: set[str] = set()

    def upload_fileobj(self, file: IO[bytes], bucket: str, key: str) -> None:
        path = Path(file.name)
        if path.name in self.busy:
            path.write_text(path.read_text() + "more")
        self.uploaded.append(key)


def manifest(step: int, eval_loss: float | None = None, **files: bytes) -> Manifest:
    listed = (ManifestFile(name=name, bytes=len(body), sha256="") for name, body in files.items())
    return Manifest(
        job_id="run", config_sha256="", step=step, tokens_seen=0, created_at=0, eval_loss=eval_loss, files=tuple(listed)
    )


def checkpoint(step: int, eval_loss: float | None = None) -> dict[str, bytes]:
    """A whole one's files."""
    files = {"weights": b"w", "state": b"state"}
    return {**files, "manifest.json": manifest(step, eval_loss, **files).model_dump_json().encode()}


def written(folder: Path, step: int, eval_loss: float | None = None) -> None:
    """As if it had been written at second `step`."""
    for name, body in checkpoint(step, eval_loss).items():
        path = folder / f"checkpoint-{step}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        os.utime(path, (step, step))


def stored(bucket: Bucket, step: int, eval_loss: float | None = None) -> None:
    for name, body in checkpoint(step, eval_loss).items():
        bucket.put(f"checkpoints/checkpoint-{step}/{name}", body)


def steps_of(s3: RecordingS3) -> list[int]:
    """In the order in which they are whole in S3."""
    return [int(key.split("/")[1].split("-")[1]) for key in s3.uploaded if key.endswith("manifest.json")]


def test_a_manifest_goes_up_after_all_other_files_of_its_folder(tmp_path: Path) -> None:
    s3 = RecordingS3()
    sync = CheckpointSync(Objects(s3), "s3://b/p", tmp_path, settle=0)
    written(tmp_path, 1)
    assert sync.push() == 3
    assert s3.uploaded[-1] == "p/checkpoint-1/manifest.json"
    assert sync.push() == 0


def test_a_manifest_waits_while_a_file_of_its_folder_is_still_being_written(tmp_path: Path) -> None:
    s3 = RecordingS3()
    sync = CheckpointSync(Objects(s3), "s3://b/p", tmp_path, settle=0)
    written(tmp_path, 1)
    written(tmp_path, 2)
    s3.busy = {"state"}
    sync.push()
    assert steps_of(s3) == []
    s3.busy = set()
    sync.push()
    assert steps_of(s3) == [1, 2]


def test_each_checkpoint_is_whole_in_s3_before_the_next_begins_the_oldest_first(tmp_path: Path) -> None:
    s3 = RecordingS3()
    for step in (10, 9, 11):
        written(tmp_path, step)
    CheckpointSync(Objects(s3), "s3://b/p", tmp_path, settle=0).push()
    folders = [key.split("/")[1] for key in s3.uploaded]
    assert folders == [f"checkpoint-{step}" for step in (9, 10, 11) for _ in range(3)]


def test_the_last_push_begins_with_what_a_resume_needs(tmp_path: Path) -> None:
    """The newest one goes on from there only where the best one before it is there, too."""
    s3 = RecordingS3()
    for step, loss in ((9, None), (10, 1.0), (11, 2.0), (12, None)):
        written(tmp_path, step, loss)
    (tmp_path / "progress.json").write_text("{}")
    CheckpointSync(Objects(s3), "s3://b/p", tmp_path, settle=0).push(final=True)
    assert steps_of(s3) == [10, 12, 11, 9]
    assert s3.uploaded[0] == "p/progress.json", "small, and what tells how far it is"


def test_a_host_that_writes_no_manifests_brings_its_newest_part_first(tmp_path: Path) -> None:
    s3 = RecordingS3()
    for step in (10, 9):
        written(tmp_path, step)
        (tmp_path / f"checkpoint-{step}/manifest.json").unlink()
    CheckpointSync(Objects(s3), "s3://b/p", tmp_path, settle=0).push(final=True)
    assert [key.split("/")[1] for key in s3.uploaded] == ["checkpoint-10"] * 2 + ["checkpoint-9"] * 2


def test_a_file_that_changed_this_moment_waits_and_the_last_push_takes_it(tmp_path: Path) -> None:
    sync = CheckpointSync(Objects(RecordingS3()), "s3://b/p", tmp_path, settle=3600)
    (tmp_path / "progress.json").write_text("{}")
    assert sync.push() == 0
    assert sync.push(final=True) == 1


def test_a_file_that_never_stands_still_goes_up_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [time.time()]
    monkeypatch.setattr(time, "time", lambda: now[0])
    sync = CheckpointSync(Objects(RecordingS3()), "s3://b/p", tmp_path, settle=10)
    pushed = []
    for _ in range(5):
        (tmp_path / "progress.json").write_text(str(now[0]))
        os.utime(tmp_path / "progress.json", (now[0], now[0]))
        pushed.append(sync.push())
        now[0] += 9
    assert pushed == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("final", [False, True])
def test_working_places_stay_on_the_disk(tmp_path: Path, *, final: bool) -> None:
    s3 = RecordingS3()
    for name in (".partial-9", ".replaced-8", "deep/.partial"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "weights").write_text("w")
    (tmp_path / ".progress.json.partial").write_text("{")
    (tmp_path / "history.json").write_text("{}")
    CheckpointSync(Objects(s3), "s3://b/p", tmp_path, settle=0).push(final=final)
    assert s3.uploaded == ["p/history.json"]


def test_working_places_in_s3_stay_there(bucket: Bucket, pods: Pods) -> None:
    """An earlier version brought them up."""
    stored(bucket, 1)
    for name in (".partial-2/weights", ".replaced-1/weights", ".progress.json.partial"):
        bucket.put(f"checkpoints/{name}", b"w")
    assert json.loads(pods.start(NAMES).line()) == ["checkpoint-1"]


def test_a_restore_that_s3_interrupts_goes_on_with_what_is_left(bucket: Bucket, tmp_path: Path) -> None:
    class Interrupted(Objects):
        asked: list[str] = []

        def download(self, source: StoredObject, target: Path) -> None:
            self.asked.append(target.name)
            if len(self.asked) == 2:
                raise EndpointConnectionError(endpoint_url="s3")
            super().download(source, target)

    stored(bucket, 1)
    sync = CheckpointSync(Interrupted(bucket.s3), bucket.uri("checkpoints/"), tmp_path, settle=0)
    patiently(sync.restore, 60, threading.Event())
    assert Interrupted.asked == ["manifest.json", "state", "state", "weights"]
    assert sync.push(final=True) == 0, "what has come from S3 is there already"


def test_of_many_checkpoints_the_newest_and_the_best_are_fetched(bucket: Bucket, pods: Pods) -> None:
    for step in range(1, 9):
        stored(bucket, step, eval_loss=abs(step - 3.0))
    bucket.put("checkpoints/checkpoint-9/weights", b"never finished")
    bucket.put("checkpoints/checkpoint-10/manifest.json", b"{")
    bucket.put("checkpoints/progress.json", b"{}")
    newest = [f"checkpoint-{step}" for step in range(9 - KEEP, 9)]
    assert json.loads(pods.start(NAMES).line()) == ["checkpoint-3", *newest, "progress.json"]


@pytest.mark.parametrize("part", [None, b"cut off"])
def test_a_checkpoint_that_a_host_did_not_finish_hides_no_older_one(
    bucket: Bucket, pods: Pods, part: bytes | None
) -> None:
    """The first host's manifest is there; of the second one's part nothing, or an earlier try's."""
    for step in range(1, 4):
        stored(bucket, step)
    for step in range(4, 4 + KEEP):
        files = {"weights": b"w", "optimizer.rank-1.pt": b"moments"}
        bucket.put(f"checkpoints/checkpoint-{step}/weights", files["weights"])
        if part is not None:
            bucket.put(f"checkpoints/checkpoint-{step}/optimizer.rank-1.pt", part[: step - 1])
        told = manifest(step, 0.1, **files).model_dump_json().encode()
        bucket.put(f"checkpoints/checkpoint-{step}/manifest.json", told)
    for host in (0, 1):
        pod = pods.start(NAMES, host=host, hosts=("localhost", "two.run"))
        assert json.loads(pod.line()) == [f"checkpoint-{step}" for step in range(4 - KEEP, 4)]


@given(st.dictionaries(st.integers(0, 50), st.none() | st.floats(0, 9), max_size=12), st.integers(1, 4))
def test_what_is_needed_of_checkpoints_are_the_newest_and_the_best(
    losses: dict[int, float | None], newest: int
) -> None:
    needed = needed_folders({f"checkpoint-{step}": manifest(step, loss) for step, loss in losses.items()}, newest)
    steps = {int(name.removeprefix("checkpoint-")) for name in needed}
    assert set(sorted(losses)[-newest:]) <= steps
    scored = {step: loss for step, loss in losses.items() if loss is not None}
    assert not scored or any(scored.get(step) == min(scored.values()) for step in steps)
    assert len(steps) <= newest + 1


def test_a_disk_that_is_full_while_checkpoints_come_back_is_said_with_what_to_do(bucket: Bucket, pods: Pods) -> None:
    """By the system's own limit on the size of a file, so that the write fails inside the library's threads."""
    files = {"weights": bytes(9_000_000)}
    bucket.put("checkpoints/checkpoint-1/weights", files["weights"])
    bucket.put("checkpoints/checkpoint-1/manifest.json", manifest(1, **files).model_dump_json().encode())
    pod = pods.start("raise SystemExit('the trainer was started')")
    resource.prlimit(pod.process.pid, resource.RLIMIT_FSIZE, (50_000, 50_000))
    ended = pod.end()
    assert (ended.code, ended.failure.code) == (ExitCode.USER_ERROR, "pod_disk_full")
    assert "--storage-class" in ended.failure.remedy


TRAINS = """
    import hashlib, shutil
    folder, found = root / "checkpoints", []
    for path in folder.glob("checkpoint-*"):
        manifest = json.loads((path / "manifest.json").read_text())
        for file in manifest["files"]:
            assert hashlib.sha256((path / file["name"]).read_bytes()).hexdigest() == file["sha256"], path
        found.append(manifest["step"])
    found.sort()
    print(json.dumps(found))
    for step in range(max(found, default=0) + 1, max(found, default=0) + 1 + STEPS):
        partial, bodies = folder / f".partial-{step}", {name: os.urandom(50_000) for name in ("weights", "optimizer")}
        partial.mkdir()
        for name, body in bodies.items():
            (partial / name).write_bytes(body)
        files = [
            {"name": name, "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
            for name, body in bodies.items()
        ]
        told = {"job_id": "run", "config_sha256": "", "step": step, "tokens_seen": 0, "created_at": 0, "files": files}
        (partial / "manifest.json").write_text(json.dumps(told))
        partial.rename(folder / f"checkpoint-{step}")
        found.append(step)
        for old in found[:-KEEP]:
            shutil.rmtree(folder / f"checkpoint-{old}", ignore_errors=True)
        time.sleep(0.2)
    (root / "model/report.json").write_text("{}")
""".replace("KEEP", str(KEEP))


def newest_whole(bucket: Bucket) -> int:
    """In S3; 0 for none."""
    listed = bucket.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{bucket.folder}/checkpoints/")
    sizes = {one["Key"]: one["Size"] for page in listed for one in page.get("Contents", [])}
    steps = [0]
    for key in sizes:
        if key.endswith("/manifest.json"):
            told = json.loads(bucket.read(key.removeprefix(f"{bucket.folder}/")))
            folder = key.removesuffix("manifest.json")
            if all(sizes.get(folder + file["name"]) == file["bytes"] for file in told["files"]):
                steps.append(told["step"])
    return max(steps)


@pytest.mark.parametrize("seed", range(2))
def test_pods_killed_at_random_moments_go_on_from_the_newest_whole_checkpoint(
    bucket: Bucket, pods: Pods, seed: int
) -> None:
    """Every other one at any moment from its start, while it fetches, too; the others at any moment of their syncs."""
    moments = random.Random(seed)
    expected = 0
    for number in range(6):
        pod = pods.start(TRAINS.replace("STEPS", "100_000"))
        if number % 2:
            wait_for(partial(newer_whole, bucket, expected), "a newer checkpoint in S3", pause=0.01)
        with contextlib.suppress(subprocess.TimeoutExpired):
            pod.process.wait(moments.uniform(0, 0.5) if number % 2 else moments.uniform(0.1, 3))
        pod.kill()
        line = pod.line()
        assert not line or check_resumed(line, expected)
        expected = newest_whole(bucket)
    last = pods.start(TRAINS.replace("STEPS", "3"))
    assert check_resumed(last.line(), expected)
    assert last.end().code == ExitCode.PUBLISHED
    assert newest_whole(bucket) >= expected + 3 >= 6


def newer_whole(bucket: Bucket, than: int) -> int | None:
    return found if (found := newest_whole(bucket)) > than else None


def check_resumed(line: str, expected: int) -> bool:
    """An upload that was under way when the pod died may still have ended."""
    found = json.loads(line)
    return len(found) <= KEEP + 1 and max(found, default=0) >= expected
