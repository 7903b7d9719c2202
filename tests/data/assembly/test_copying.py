"""A dataset is built again byte for byte, or not at all."""

from __future__ import annotations

import tracemalloc
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from zlib import compress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotune.contracts.errors import DatasetRefused
from spotune.contracts.rules import DataManifest, ManifestEntry, Selection
from spotune.data.assembly import passes
from spotune.data.assembly.choosing import choose_rows, known_after
from spotune.data.assembly.copying import CHUNK_BYTES, Measured, dataset_bytes, rebuilt
from spotune.data.assembly.hashes import hash_rows
from spotune.data.assembly.picked import MAX_ROWS, picked_rows
from spotune.data.assembly.refusals import DatasetChanged
from spotune.data.assembly.sources import Source, whole
from tests.data.assembly.shelf import Row, Shelf, line, lines, manifest_of

FILES = st.lists(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)), max_size=30), min_size=1, max_size=5)


def built(shelf: Shelf, files: list[list[Row]]) -> DataManifest:
    entries = choose_rows(
        shelf.add_all(files), [], shelf.open, selection=Selection(), number=1, known_uri=None, keys_uri=None
    )
    return manifest_of(shelf, entries)


@given(FILES)
def test_a_manifest_gives_the_same_bytes_each_time_from_the_objects_alone(files: list[list[Row]]) -> None:
    shelf = Shelf()
    manifest = DataManifest.model_validate_json(built(shelf, files).model_dump_json())
    for uri in [uri for uri in shelf.bodies if uri.endswith((".hashes", ".keys"))]:
        del shelf.bodies[uri]
    assert b"".join(rebuilt(manifest, shelf.open)) == shelf.bodies[manifest.uri]


@given(FILES, st.data())
def test_an_object_that_changed_is_named(files: list[list[Row]], data: st.DataObject) -> None:
    shelf = Shelf()
    manifest = built(shelf, files)
    taken = [entry.uri for entry in manifest.entries if entry.taken]
    if not taken:
        return
    uri = data.draw(st.sampled_from(taken))
    body = shelf.bodies[uri]
    shelf.bodies[uri] = data.draw(st.sampled_from([body[:-1] + b" \n", body + line((1, 1)), body[:-9], b""]))
    with pytest.raises(DatasetChanged) as changed:
        list(rebuilt(manifest, shelf.open))
    assert (changed.value.uri, changed.value.code) == (uri, "dataset_object_changed")


def test_an_object_that_is_gone_is_named_with_its_version() -> None:
    shelf = Shelf()
    manifest = built(shelf, [[(1, 1)], [(2, 2)]])
    pinned = manifest.entries[1].with_(version_id="v2")
    del shelf.bodies[pinned.uri]
    with pytest.raises(DatasetChanged, match="version v2") as lost:
        list(rebuilt(manifest.with_(entries=(manifest.entries[0], pinned)), shelf.open))
    assert (lost.value.uri, lost.value.code) == (pinned.uri, "dataset_object_gone")


def test_a_manifest_that_gives_other_bytes_is_found_out() -> None:
    shelf = Shelf()
    manifest = built(shelf, [[(1, 1)], [(2, 2)]])
    with pytest.raises(DatasetChanged, match="when it is built again"):
        list(rebuilt(manifest.with_(entries=manifest.entries[::-1]), shelf.open))


def test_a_file_that_gives_nothing_is_not_opened() -> None:
    shelf = Shelf()
    manifest = built(shelf, [[(1, 1)], [(1, 1)]])
    shelf.opened.clear()
    list(rebuilt(manifest, shelf.open))
    assert shelf.opened == ["s3://b/new/0.jsonl"]


def entry(**changes: object) -> ManifestEntry:
    body = lines([(number, 0) for number in range(20)])
    source = Source("s3://b/a", "", sha256(body).hexdigest(), len(body), 20, "")
    return whole(source).with_(**changes)


def bits(*data: int) -> str:
    return b64encode(compress(bytes(data))).decode()


@pytest.mark.parametrize(
    "changes",
    [
        {"taken": 21},
        {"taken": -1},
        {"rows": 10**15, "taken": 10**15},
        {"rows": MAX_ROWS + 1, "taken": 1, "bytes": 10**12},
        {"taken": 5},
        {"taken": 1, "picked": "no base64!"},
        {"taken": 1, "picked": b64encode(b"not deflated").decode()},
        {"taken": 1, "picked": bits(1, 0)},
        {"taken": 1, "picked": bits(1, 0, 0, 0)},
        {"taken": 1, "picked": bits(0, 0, 16)},
        {"taken": 2, "picked": bits(1, 0, 0)},
        {"taken": 1, "picked": b64encode(compress(bytes(50_000_000))).decode()},
    ],
)
def test_a_manifest_that_cannot_be_true_is_refused_before_anything_is_read(changes: dict[str, object]) -> None:
    tracemalloc.start()
    with pytest.raises(DatasetRefused) as refused:
        picked_rows(entry(**changes))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refused.value.code == "manifest_damaged"
    assert peak < 5_000_000


ROWS = {"old": range(50_000), "new": range(25_000, 125_000)}


def many(numbers: range) -> Iterator[bytes]:
    """A stream of rows of about 500 bytes each."""
    row = '{"messages": [{"role": "user", "content": "%d"}, {"role": "assistant", "content": "' + "x" * 400 + '"}]}\n'
    return ((row % number).encode() for number in numbers)


def test_a_hundred_thousand_rows_take_the_memory_of_one_pass() -> None:
    """50 MB of new data: the sets of a pass are bounded, and a chunk is all that is held of the data."""
    hashes = {uri: b"".join(hash_rows(many(numbers))) for uri, numbers in ROWS.items()}

    def open_it(uri: str, version_id: str) -> Iterator[bytes]:
        if uri in ROWS:
            return many(ROWS[uri])
        body = hashes[uri.removesuffix(".h")]
        return (body[at : at + 65_536] for at in range(0, len(body), 65_536))

    def source(uri: str) -> Source:
        measured = Measured(many(ROWS[uri]))
        size = sum(len(text) for text in measured)
        return Source(uri, "", measured.sha256, size, len(ROWS[uri]), f"{uri}.h")

    old, new = source("old"), source("new")
    hashes["known"] = b"".join(known_after([old], [whole(old)], open_it, earlier_uri=None))
    budget = 8 * 1024**2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "BUDGET_BYTES", budget)
        tracemalloc.start()
        entries = choose_rows(
            [new], [old], open_it, selection=Selection(), number=2, known_uri="known.h", keys_uri=None
        )
        _, choosing = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        size = sum(len(chunk) for chunk in dataset_bytes(entries, open_it))
        _, copying = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert [one.taken for one in entries] == [75_000, 18_750]
    assert size > 40_000_000
    assert choosing < budget + 3 * 1024**2
    assert copying < 4 * CHUNK_BYTES
