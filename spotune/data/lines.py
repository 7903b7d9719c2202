"""From a stream of bytes to its lines, in constant memory, wherever the chunks were cut."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

MAX_LINE_BYTES = 4_000_000
"""Longest line that is kept, about a million tokens; longer ones are only measured."""

HEAD_BYTES = 4096

BOM = b"\xef\xbb\xbf"

_MAGIC = {
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"\x1f\x8b": "a gzip archive",
    b"PK\x03\x04": "a ZIP archive (or a spreadsheet)",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ\x00": "an XZ archive",
    b"\x93NUMPY": "a NumPy file",
    b"%PDF": "a PDF file",
    b"Obj\x01": "an Avro file",
    b"SQLite format 3\x00": "an SQLite file",
}
_ARRAY_OF_ROWS = re.compile(rb'\s*\[\s*(\Z|\r?\n|\{(?!\s*"(role|content|weight)"))')
_LONELY_BRACE = re.compile(rb"\s*\{[ \t\r]*\n")
_HEADER_CELL = re.compile(r'"?[^\W\d][\w .-]{0,63}"?')


class Line(NamedTuple):
    """One line without its newline. `content` is empty where `length` is above MAX_LINE_BYTES."""

    number: int
    content: bytes
    length: int
    ended: bool
    """False for a last line that no newline ends."""


def read_head(chunks: Iterable[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The first HEAD_BYTES of a stream (less where it ends), and the whole stream again."""
    stream = iter(chunks)
    head = b""
    for chunk in stream:
        head += chunk
        if len(head) >= HEAD_BYTES:
            break
    return head[:HEAD_BYTES], chain((head,), stream)


def split_lines(chunks: Iterable[bytes]) -> Iterator[Line]:
    """Each line of a stream. Memory is bounded by one chunk and one line of MAX_LINE_BYTES."""
    number, kept, length = 1, bytearray(), 0
    for chunk in chunks:
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            length += len(piece)
            content = b"" if length > MAX_LINE_BYTES else bytes(kept) + piece if kept else piece
            yield Line(number, content, length, True)
            number, length = number + 1, 0
            kept.clear()
        length += len(rest)
        if length <= MAX_LINE_BYTES:
            kept += rest
        else:
            kept.clear()
    if length:
        yield Line(number, bytes(kept), length, False)


def look_at(head: bytes) -> tuple[str, str] | None:
    """The rule and message where the first bytes show that a file is no JSONL at all, else None."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or _alternates_with_nul(head):
        return "utf16", "the file is UTF-16 (or UTF-32), not UTF-8"
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            return "binary_file", f"the file is {name}, not JSONL"
    text = head.removeprefix(BOM)
    if _ARRAY_OF_ROWS.match(text):
        return "json_array", "the file is one JSON array, not one JSON object on each line"
    if _LONELY_BRACE.match(text):
        return "pretty_printed", "the file spreads one JSON object over several lines"
    if _is_header(text):
        return "csv_file", "the file looks like CSV: its first line is a list of column names"
    return None


def _alternates_with_nul(head: bytes) -> bool:
    """ASCII text in UTF-16 has a NUL for every second byte; four characters are enough to tell."""
    even, odd = head[0:64:2], head[1:64:2]
    if len(odd) < 4:
        return False
    return (not any(odd) and all(even)) or (not any(even) and all(odd))


def _is_header(text: bytes) -> bool:
    first = text.split(b"\n", 1)[0].decode("utf-8", "replace").strip()
    for separator in (",", "\t", ";"):
        cells = first.split(separator)
        if len(cells) > 1 and all(_HEADER_CELL.fullmatch(cell.strip()) for cell in cells):
            return True
    return False
