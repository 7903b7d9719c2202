"""From a manifest's entries to the dataset's bytes: the first time, and each time that it is built again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256

from spotune.contracts.rules import DataManifest, ManifestEntry
from spotune.data.assembly.passes import Bits
from spotune.data.assembly.picked import picked_rows
from spotune.data.assembly.refusals import changed
from spotune.data.assembly.sources import Open
from spotune.data.lines import split_lines

CHUNK_BYTES = 1024**2


class Measured:
    """Measures a stream while it is read; `sha256` and `bytes` are those of what was read so far."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self._digest = sha256()
        self.bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._digest.update(chunk)
            self.bytes += len(chunk)
            yield chunk

    @property
    def sha256(self) -> str:
        """In hexadecimal."""
        return self._digest.hexdigest()


def dataset_bytes(entries: Sequence[ManifestEntry], open: Open) -> Iterator[bytes]:
    """The rows that the entries take, each as it stands in its file, and a newline after each; in chunks.

    A file from which nothing is taken is not opened. What was given out may be kept only once the whole has been read
    without an error: an object that changed is known when its last byte was read.

    Raises:
        DatasetChanged: an object is not the one that was pinned.
        DatasetRefused: an entry cannot be true.
    """
    buffer = bytearray()
    for entry in entries:
        if not entry.taken:
            continue
        for row in _rows(entry, picked_rows(entry), open):
            buffer += row
            buffer += b"\n"
            if len(buffer) >= CHUNK_BYTES:
                yield bytes(buffer)
                buffer.clear()
    if buffer:
        yield bytes(buffer)


def rebuilt(manifest: DataManifest, open: Open) -> Iterator[bytes]:
    """The dataset of a manifest, byte for byte, in chunks; to be kept as `dataset_bytes` says.

    Raises:
        DatasetChanged: an object is not the one that was pinned, or the whole has not the manifest's hash.
        DatasetRefused: an entry cannot be true.
    """
    measured = Measured(dataset_bytes(manifest.entries, open))
    yield from measured
    if measured.sha256 != manifest.sha256:
        raise changed(manifest.uri, f"sha256 {manifest.sha256}", f"sha256 {measured.sha256} when it is built again")


def _rows(entry: ManifestEntry, taken: Bits, open: Open) -> Iterator[bytes]:
    """Lines with something on them are rows: the file was checked, so each is a good one."""
    measured, row = Measured(open(entry.uri, entry.version_id)), 0
    for line in split_lines(measured):
        if not line.content.strip() and line.length == len(line.content):
            continue
        if row < entry.rows and row in taken:
            yield line.content
        row += 1
    if measured.sha256 != entry.sha256:
        raise changed(entry.uri, f"sha256 {entry.sha256}", f"sha256 {measured.sha256}")
    if row != entry.rows:
        raise changed(entry.uri, f"{entry.rows:,} rows", f"{row:,} rows")
