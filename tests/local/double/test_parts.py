"""The parts by themselves: capacity traces, the cache, files, disturbed events."""

from __future__ import annotations

import io
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st

from spotune.local.double.capacity import Trace
from spotune.local.double.clock import VirtualClock
from spotune.local.double.events import Disturber, EventBridge
from spotune.local.double.objects import CachedObjects
from spotune.local.double.storage import replace_file
from spotune.pod.objects import StoredObject, relative_key
from tests.local.double.conftest import BUCKET, Site, until

pytestmark = pytest.mark.embedded

RUNS = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 5)), min_size=1, max_size=6)


@given(RUNS, st.floats(0, 500), st.integers(1, 4))
def test_a_trace_says_when_capacity_is_next_lost_and_there_is_enough_until_then(
    runs: list[tuple[int, int]], elapsed: float, count: int
) -> None:
    trace = Trace(10.0, runs)
    lost = trace.next_below(elapsed, count)
    if lost == float("inf"):
        assert all(free >= count for free, _ in runs)
        return
    assert lost >= elapsed
    assert trace.at(lost) < count
    boundaries = [second for second in range(0, 2000, 10) if elapsed <= second < lost]
    assert all(trace.at(second) >= count for second in boundaries)


def test_a_trace_file_has_steps_of_instances_and_intervals(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text(json.dumps({"gap_seconds": 100, "capacity_runs": [[1, 2], [0, 3]], "source": "recorded"}))
    trace = Trace.from_file(path)
    assert [trace.at(second) for second in (0, 199, 200, 499, 500)] == [1, 1, 0, 0, 1]
    path.write_text(json.dumps({"gap_seconds": 100, "capacity_runs": []}))
    with pytest.raises(ValueError, match="positive gap_seconds"):
        Trace.from_file(path)


def test_the_cache_keeps_below_its_limit_by_dropping_what_was_used_longest_ago(site: Site, tmp_path: Path) -> None:
    objects = CachedObjects(site.s3, tmp_path / "own", cache_limit=9_000_000)
    for number in range(3):
        site.put(f"cache/{number}", bytes([number]) * 4_200_000)
    for number, source in enumerate(objects.list(f"s3://{BUCKET}/cache/")):
        objects.fetch(source, tmp_path / f"copy-{number}")
        for path in (tmp_path / "own").iterdir():
            os.utime(path, (path.stat().st_mtime - 10,) * 2)
    assert sum(path.stat().st_size for path in (tmp_path / "own").iterdir()) <= 9_000_000
    assert (tmp_path / "copy-0").read_bytes()[:1] == b"\x00"


def test_a_download_that_breaks_off_leaves_nothing_in_the_cache(tmp_path: Path) -> None:
    class Broken:
        def download_file(self, bucket: str, key: str, path: str) -> None:
            raise EndpointConnectionError(endpoint_url="s3")

    objects = CachedObjects(Broken(), tmp_path / "cache")
    with pytest.raises(EndpointConnectionError):
        objects.fetch(StoredObject("b", "k", "e", 5_000_000, datetime.now(UTC)), tmp_path / "target")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("key", "prefix", "relative"),
    [
        ("a/b/data.jsonl", "a/b/data.jsonl", "data.jsonl"),
        ("a/b/c/d", "a/b/", "c/d"),
        ("a/train-1", "a/train", "train-1"),
        ("top", "", "top"),
    ],
)
def test_a_key_lies_below_the_last_slash_of_its_prefix(key: str, prefix: str, relative: str) -> None:
    assert relative_key(key, prefix) == relative


@pytest.mark.parametrize("key", ["a/../../etc/passwd", "a//b", "a/./b"])
def test_a_key_that_would_leave_its_channel_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="no place in a folder"):
        relative_key(key, "a/")


def test_a_file_that_cannot_be_written_leaves_the_old_one_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "job.json"
    replace_file(path, b"old")

    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(28, "No space left on device")

    def full(path: Path, mode: str) -> Full:
        path.touch()
        return Full()

    with monkeypatch.context() as disk:
        disk.setattr(Path, "open", full)
        with pytest.raises(OSError, match="No space left"):
            replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_events_come_late_and_swapped_on_request() -> None:
    clock, seen = VirtualClock(), list[str]()
    disturber = Disturber(lambda arn, detail: seen.append(arn), clock)
    disturber.disturb("late", count=1, late_seconds=10)
    for name in ("a", "b"):
        disturber.publish(name, {})
    clock.advance(10)
    disturber.disturb("swap", count=1)
    for name in ("c", "d", "e"):
        disturber.publish(name, {})
    assert seen == ["b", "a", "d", "c", "e"]


def test_an_event_that_is_held_back_is_sent_when_order_returns() -> None:
    seen: list[str] = []
    disturber = Disturber(lambda arn, detail: seen.append(arn), VirtualClock())
    disturber.disturb("swap")
    disturber.publish("a", {})
    disturber.disturb("normal")
    assert seen == ["a"]


def test_events_are_delivered_in_order_once_the_bus_is_back() -> None:
    class Bus:
        def __init__(self) -> None:
            self.calls, self.delivered = 0, list[str]()

        def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
            self.calls += 1
            if self.calls == 1:
                raise EndpointConnectionError(endpoint_url="events")
            if self.calls == 2:
                return {"FailedEntryCount": 1, "Entries": [{"ErrorMessage": "throttled"}]}
            self.delivered += [json.loads(entry["Detail"])["n"] for entry in Entries]
            return {"FailedEntryCount": 0}

    bus = Bus()
    bridge = EventBridge(bus, "spotune.double")
    for number in range(3):
        bridge.send("arn", {"n": number})
    until(lambda: len(bus.delivered) == 3)
    bridge.close()
    assert bus.delivered == [0, 1, 2]
