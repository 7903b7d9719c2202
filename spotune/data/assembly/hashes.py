"""Two kinds of files that stand for rows where nobody has to read them.

A hash file has what tells a data file's rows apart, in their order:

    8 bytes   SPOTROWS
   16 bytes   the rows' format in ASCII, padded with NUL
   32 bytes   for each row: the hash of its content, and that of its prompt
    8 bytes   the number of rows, big-endian
   16 bytes   BLAKE2b of all that stands before

A key file is a set of hashes: SPOTKEYS, 16 NULs, 16 bytes for each key in ascending order, and the same end.

Both are read as streams, and a file that is cut short or changed raises before its reader is done.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import chain
from typing import cast, get_args

from spotune.contracts.dataset import RowFormat
from spotune.contracts.errors import DatasetRefused
from spotune.data.assembly.refusals import HashesDamaged
from spotune.data.faults import FaultList
from spotune.data.formats import read_examples
from spotune.data.rows import Example, content_hash, prompt_hash

KEY_BYTES = 16
_ROWS, _KEYS = b"SPOTROWS", b"SPOTKEYS"
_HEAD_BYTES = 24
_TAIL_BYTES = 24
_CHUNK_BYTES = 256 * 1024
_RECORD = {_ROWS: struct.Struct("16s16s"), _KEYS: struct.Struct("16s")}
_FORMATS: dict[str, RowFormat] = {name: name for name in get_args(RowFormat)}

RowHash = tuple[bytes, bytes]
"""Of a row's content, and of its prompt."""


def hash_rows(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The hash file of a data file's stream, in chunks.

    Raises:
        DatasetRefused: a row has a fault. Files are checked before they are hashed, so this one has changed since.
    """
    faults = FaultList()
    yield from hash_examples(read_examples(chunks, faults, None))
    if faults.count:
        first = faults.faults[0]
        raise DatasetRefused(f"Line {first.line}: {first.message}.", code=first.rule, remedy=first.remedy)


def hash_examples(examples: Iterator[Example]) -> Iterator[bytes]:
    """The hash file of a data file's rows, in chunks; whether they were all good their reader knows at the end."""
    first = next(examples, None)
    rows = examples if first is None else chain((first,), examples)
    records = (content_hash(example) + prompt_hash(example) for example in rows)
    return _written(_ROWS, "" if first is None else first.format, records)


def hash_file_bytes(rows: int) -> int:
    """How long the hash file of so many rows is."""
    return _HEAD_BYTES + rows * _RECORD[_ROWS].size + _TAIL_BYTES


def write_keys(keys: Iterable[bytes]) -> Iterator[bytes]:
    """The key file of keys that come in ascending order, each once."""
    return _written(_KEYS, "", iter(keys))


def read_rows(chunks: Iterable[bytes], uri: str, rows: int) -> tuple[RowFormat, Iterator[RowHash]]:
    """The format of a data file's rows, and their hashes in its order, from its hash file.

    Args:
        chunks: the hash file.
        uri: its own, for the error.
        rows: how many there must be.

    Raises:
        HashesDamaged: it is none, or not whole; of the whole known only when the last hash was asked for.
    """
    head, rest = _opened(chunks, uri, _ROWS)
    row_format = _FORMATS.get(head[8:].rstrip(b"\0").decode("ascii", "replace"))
    if row_format is None:
        raise HashesDamaged(uri, "it names no format")
    return row_format, cast(Iterator[RowHash], _records(_ROWS, head, rest, uri, rows))


def read_keys(chunks: Iterable[bytes], uri: str) -> Iterator[bytes]:
    """A key file's keys, ascending. Raises as `read_rows`."""
    head, rest = _opened(chunks, uri, _KEYS)
    return (key for (key,) in _records(_KEYS, head, rest, uri, None))


def _written(magic: bytes, row_format: str, records: Iterator[bytes]) -> Iterator[bytes]:
    digest, count = blake2b(digest_size=KEY_BYTES), 0
    buffer = bytearray(magic + row_format.encode().ljust(_HEAD_BYTES - len(magic), b"\0"))
    for record in records:
        buffer += record
        count += 1
        if len(buffer) >= _CHUNK_BYTES:
            digest.update(buffer)
            yield bytes(buffer)
            buffer.clear()
    buffer += count.to_bytes(8, "big")
    digest.update(buffer)
    yield bytes(buffer) + digest.digest()


def _opened(chunks: Iterable[bytes], uri: str, magic: bytes) -> tuple[bytes, Iterator[bytes]]:
    """The head, and what follows it."""
    stream, seen = iter(chunks), b""
    while len(seen) < _HEAD_BYTES and (chunk := next(stream, None)) is not None:
        seen += chunk
    if not seen.startswith(magic) or len(seen) < _HEAD_BYTES:
        raise HashesDamaged(uri, "it does not begin as one")

    def rest() -> Iterator[bytes]:
        yield seen[_HEAD_BYTES:]
        yield from stream

    return seen[:_HEAD_BYTES], rest()


def _records(
    magic: bytes, head: bytes, chunks: Iterator[bytes], uri: str, wanted: int | None
) -> Iterator[tuple[bytes, ...]]:
    """Each record, and in the end the proof that there were no others: the tail is held back until it is known."""
    record, count = _RECORD[magic], 0
    digest, held = blake2b(head, digest_size=KEY_BYTES), b""
    for chunk in chunks:
        held += chunk
        whole = max(0, len(held) - _TAIL_BYTES) // record.size * record.size
        if whole:
            count += whole // record.size
            if wanted is not None and count > wanted:
                raise HashesDamaged(uri, f"it has more rows than the {wanted:,} of its data")
            digest.update(held[:whole])
            yield from record.iter_unpack(held[:whole])
            held = held[whole:]
    digest.update(held[:8])
    if held != count.to_bytes(8, "big") + digest.digest():
        raise HashesDamaged(uri, "its end does not fit what stands before it")
    if wanted is not None and count != wanted:
        raise HashesDamaged(uri, f"it has {count:,} rows and its data {wanted:,}")
