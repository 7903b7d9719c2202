"""Files of rows in a dict, with their hash files beside them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256

from spotune.contracts.rules import DataManifest, FrozenSet, ManifestEntry, Selection
from spotune.data.assembly.copying import Measured, dataset_bytes
from spotune.data.assembly.frozen import Carved, carve
from spotune.data.assembly.hashes import hash_rows
from spotune.data.assembly.refusals import gone
from spotune.data.assembly.sources import Source

Row = tuple[int, int]
"""A prompt's number, and an answer's."""


def line(row: Row) -> bytes:
    messages = [{"role": "user", "content": f"question {row[0]}"}, {"role": "assistant", "content": f"answer {row[1]}"}]
    return json.dumps({"messages": messages}).encode() + b"\n"


def lines(rows: Iterable[Row]) -> bytes:
    return b"".join(map(line, rows))


def rows_of(body: bytes) -> list[Row]:
    """The rows of a dataset of such lines."""
    read = [[message["content"] for message in json.loads(text)["messages"]] for text in body.splitlines()]
    return [(int(asked.rpartition(" ")[2]), int(answer.rpartition(" ")[2])) for asked, answer in read]


class Shelf:
    """`opened` counts what was read, by its URI."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}
        self.opened: list[str] = []

    def open(self, uri: str, version_id: str) -> Iterator[bytes]:
        self.opened.append(uri)
        if uri not in self.bodies:
            raise gone(uri, version_id)
        body = self.bodies[uri]
        return (body[at : at + 1000] for at in range(0, len(body), 1000))

    def add(self, uri: str, body: bytes) -> Source:
        self.bodies[uri] = body
        self.keep(f"{uri}.hashes", hash_rows([body]))
        rows = sum(1 for text in body.split(b"\n") if text.strip())
        return Source(uri, "", sha256(body).hexdigest(), len(body), rows, f"{uri}.hashes")

    def add_all(self, files: Sequence[Sequence[Row]], name: str = "s3://b/new") -> list[Source]:
        """One file for each list of rows that has any."""
        return [self.add(f"{name}/{number}.jsonl", lines(rows)) for number, rows in enumerate(files) if rows]

    def keep(self, uri: str, chunks: Iterable[bytes]) -> str:
        self.bodies[uri] = b"".join(chunks)
        return uri

    def carve(self, sources: Sequence[Source], *, rule_id: str = "rule-1", **frozen: float) -> tuple[Carved, str]:
        """The evaluation set, and where its keys lie."""
        carved = carve(sources, self.open, frozen=FrozenSet.model_validate(frozen), rule_id=rule_id)
        return carved, self.keep("s3://b/frozen.keys", carved.key_file())

    def rows(self, entries: Sequence[ManifestEntry]) -> list[Row]:
        return rows_of(b"".join(dataset_bytes(entries, self.open)))


def manifest_of(shelf: Shelf, entries: tuple[ManifestEntry, ...], uri: str = "s3://b/training.jsonl") -> DataManifest:
    """What the service writes beside a dataset, which is put on the shelf."""
    measured = Measured(dataset_bytes(entries, shelf.open))
    shelf.keep(uri, measured)
    return DataManifest(
        rule_id="rule-1",
        tenant="acme",
        retraining=1,
        created_at=0,
        entries=entries,
        selection=Selection(),
        frozen_sha256="0" * 64,
        rows=sum(entry.taken for entry in entries),
        replayed_rows=sum(entry.taken for entry in entries if entry.role == "replay"),
        uri=uri,
        sha256=measured.sha256,
    )
