"""Files of a dataset: read many at a time, kept while they are small, and named where they are gone."""

from __future__ import annotations

import threading

import pytest

from spotune.aws.memory_objects import MemoryObjects
from spotune.contracts.errors import Unavailable
from spotune.data.assembly.refusals import DatasetChanged
from spotune.service.files import reading
from spotune.service.files.reading import Reader, each


class Counting(MemoryObjects):
    """Counts what is read, by its URI."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []

    def stream(self, uri: str, *, version_id: str = "", etag: str = ""):  # type: ignore[no-untyped-def]
        self.reads.append(uri)
        return super().stream(uri, version_id=version_id, etag=etag)


@pytest.fixture
def objects() -> Counting:
    return Counting()


def test_what_was_fetched_is_read_once_however_often_it_is_opened(objects: Counting) -> None:
    names = [f"s3://b/{number}" for number in range(100)]
    for name in names:
        objects.write(name, name.encode())
    reader = Reader(objects)
    for _ in range(2):
        reader.fetch((name, "", 20) for name in names)
    assert [b"".join(reader(name, "")) for name in names * 3] == [name.encode() for name in names] * 3
    assert sorted(objects.reads) == sorted(names)


def test_versions_of_a_key_are_told_apart(objects: Counting) -> None:
    versions = []
    for body in (b"one", b"two"):
        objects.write("s3://b/a", body)
        info = objects.head("s3://b/a")
        assert info is not None
        versions.append(info.version_id)
    reader = Reader(objects)
    reader.fetch(("s3://b/a", version, 3) for version in versions)
    assert [b"".join(reader("s3://b/a", version)) for version in versions] == [b"one", b"two"]


def test_large_ones_and_those_beyond_the_room_are_streamed_each_time(
    objects: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "SMALL_BYTES", 10)
    monkeypatch.setattr(reading, "KEPT_BYTES", 15)
    for name in "abc":
        objects.write(f"s3://b/{name}", b"x" * 8)
    objects.write("s3://b/large", b"x" * 11)
    reader = Reader(objects)
    reader.fetch([("s3://b/large", "", 11), *((f"s3://b/{name}", "", 8) for name in "abc")])
    assert objects.reads == ["s3://b/a"]
    for _ in range(2):
        assert b"".join(reader("s3://b/b", "")) == b"x" * 8
    assert objects.reads.count("s3://b/b") == 2


def test_what_is_gone_is_named_when_it_is_opened(objects: Counting) -> None:
    reader = Reader(objects)
    reader.fetch([("s3://b/gone", "v1", 5)])
    with pytest.raises(DatasetChanged, match="gone"):
        reader("s3://b/gone", "v1")


def test_work_is_done_many_at_a_time_and_answers_in_order() -> None:
    together = threading.Barrier(reading.AT_ONCE)

    def meet(number: int) -> int:
        together.wait(timeout=30)
        return number

    assert each(meet, range(reading.AT_ONCE * 4)) == list(range(reading.AT_ONCE * 4))


@pytest.mark.parametrize("count", [1, 100])
def test_what_goes_wrong_with_one_goes_wrong(count: int) -> None:
    def fail(number: int) -> None:
        raise Unavailable("S3 does not answer.", code="aws_unavailable")

    with pytest.raises(Unavailable):
        each(fail, range(count))
